"""Settings: what refuses to start, and that the refusal says which flag and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from candor import assemble, serve
from candor.probes.combine import Combination
from candor.settings import Settings, SettingsError, check_names, is_loopback, parse_strengths
from candor.trainers.options import TrainerRoutes
from tests.service.serving import save_probe


def made(**settings: Any) -> Settings:
    return Settings(model="m", **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": ""}, "--model"),
        ({"port": -1}, "--port"),
        ({"port": 65_536}, "--port"),
        ({"max_batch_tokens": 0}, "--max-batch-tokens"),
        ({"max_queue_tokens": -5}, "--max-queue-tokens"),
        ({"request_timeout_s": float("nan")}, "--request-timeout-s"),
        ({"watchdog_s": float("inf")}, "--watchdog-s"),
        ({"drain_s": 0.0}, "--drain-s"),
        ({"trainers": TrainerRoutes(turn_marker="")}, "--turn-marker is empty"),
        ({"workers": 0}, "--workers 0: must be at least 1"),
        ({"prefix_cache_mb": -1.0}, "--prefix-cache-mb -1.0: must be 0 .off. or a positive"),
        ({"prefix_cache_mb": float("inf")}, "--prefix-cache-mb"),
        ({"penalties": {"a": -0.1}}, "--penalty a"),
        ({"penalties": {"a": float("nan")}}, "--penalty a"),
        ({"kappas": {"a": float("inf")}}, "--kappa a"),
        ({"penalties": {"a": 1.0}, "kappas": {"a": 1.0}}, "--kappa"),
        ({"probes": ("p",), "monitors": ("p",)}, "--monitor"),
        ({"api_key": ""}, "API key"),
        ({"api_key": "  "}, "API key"),
        ({"api_key": "schl\xfcssel"}, "API key"),
        ({"operator_key": ""}, "operator key"),
        ({"operator_key": "\xe9"}, "operator key"),
        ({"api_key": "k", "operator_key": "k"}, "--operator-key-file"),
        ({"host": "0.0.0.0", "operator_key": "k"}, "no API key"),
        ({"combine": "median"}, "--combine"),
        ({"spread_weight": 1.0}, "--spread-weight 1.0: only --combine spread"),
        ({"combine": "max", "spread_weight": 0.5}, "--combine max"),
        ({"combine": "spread", "spread_weight": -1.0}, "--spread-weight"),
        ({"combine": "spread", "spread_weight": float("nan")}, "--spread-weight"),
        ({"drift_window": -1}, "--drift-window -1: must be 0 .off. or from 128 to 16384"),
        ({"drift_window": 127}, "--drift-window"),
        ({"drift_window": 16_385}, "--drift-window"),
        ({"drift_window": 0, "drift_reference": Path("r.json")}, "--drift-reference r.json"),
        ({"host": "0.0.0.0"}, "--api-key-file"),
        ({"host": "::"}, "--insecure-no-auth"),
        ({"host": "rewards.internal"}, "CANDOR_API_KEY"),
    ],
)
def test_a_setting_that_cannot_be_right_is_refused_by_its_flag(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings(**({"model": "m"} | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"host": "::1"},
        {"host": "127.8.8.8"},
        {"host": "localhost"},
        {"host": "0.0.0.0", "api_key": "k"},
        {"host": "0.0.0.0", "insecure_no_auth": True},
        {"penalties": {"a": 0.0}, "kappas": {"b": 2.0}},
        {"port": 0},
        {"workers": 1, "prefix_cache_mb": 0.0},
        {"operator_key": "o"},
        {"api_key": "k", "operator_key": "o"},
        {"combine": "max"},
        {"combine": "spread", "spread_weight": 0.0},
        {"drift_window": 0},
        {"drift_window": 128, "drift_reference": Path("r.json")},
    ],
)
def test_settings_that_can_be_right_are_taken(settings: dict[str, Any]) -> None:
    assert made(**settings).model == "m"


def test_the_key_is_not_in_the_repr() -> None:
    assert "tops3cret" not in repr(made(api_key="tops3cret"))
    assert "tops3cret" not in repr(made(operator_key="tops3cret"))
    assert made(api_key="tops3cret").api_key == "tops3cret"


def test_loopback_is_judged_by_address_and_never_by_an_unknown_name() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "[::1]", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "local", "")] == [False] * 5


def test_strengths_are_name_and_number() -> None:
    assert parse_strengths("--penalty", ["a=0.5", "b = 2", "c-d=1e-3"]) == {
        "a": 0.5,
        "b": 2.0,
        "c-d": 0.001,
    }
    for wrong in (["a"], ["=1"], ["a="], ["a=much"], ["a=1", "a=2"]):
        with pytest.raises(SettingsError, match="--penalty"):
            parse_strengths("--penalty", wrong)


def test_a_strength_must_name_a_served_probe() -> None:
    check_names(made(penalties={"a": 1.0}), ["a", "b"], ["c"])
    with pytest.raises(SettingsError, match="no such probe; served probes: a, b"):
        check_names(made(penalties={"x": 1.0}), ["b", "a"], [])
    with pytest.raises(SettingsError, match="--kappa c: c is a monitor"):
        check_names(made(kappas={"c": 1.0}), ["a"], ["c"])
    with pytest.raises(SettingsError, match="two probes are named a"):
        check_names(made(), ["a"], ["a"])


def test_lambda_comes_from_the_flag_from_kappa_or_is_zero(tmp_path: Path) -> None:
    folders = [str(save_probe(tmp_path / name, name, "0" * 64)) for name in "abc"]
    monitor = str(save_probe(tmp_path / "m", "m", "0" * 64))
    served = assemble.serve_probes(
        made(probes=tuple(folders), monitors=(monitor,), penalties={"a": 0.5}, kappas={"b": 0.25})
    )
    # The cards say std_R 2.0 and std_S 0.5.
    assert {name: one.default_lambda for name, one in served.everything.items()} == {
        "a": 0.5,
        "b": 1.0,
        "c": 0.0,
        "m": 0.0,
    }
    assert served.monitors == {"m"}
    assert list(served.penalised) == ["a", "b", "c"]


def test_the_key_has_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANDOR_API_KEY", raising=False)
    file = tmp_path / "key"
    file.write_text("from-file\n")
    assert serve.read_key(None, None) is None
    assert serve.read_key(None, file) == "from-file"
    assert serve.read_key("from-flag", None) == "from-flag"
    with pytest.raises(SettingsError, match="give one of them"):
        serve.read_key("from-flag", file)
    with pytest.raises(SettingsError, match="cannot be read"):
        serve.read_key(None, tmp_path / "absent")


def test_the_operators_key_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  from-file\n")
    assert serve.read_key_file("--operator-key-file", file) == "from-file"
    assert serve.read_key_file("--operator-key-file", None) is None
    with pytest.raises(SettingsError, match=r"--operator-key-file .*absent: cannot be read"):
        serve.read_key_file("--operator-key-file", tmp_path / "absent")


def test_the_combination_is_built_from_the_settings() -> None:
    assert made().combination == Combination("sum")
    assert made(combine="max").combination == Combination("max")
    assert made(combine="spread").combination == Combination("spread", 1.0)
    assert made(combine="spread", spread_weight=0.25).combination == Combination("spread", 0.25)


def test_only_a_key_on_the_command_line_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(serve.log, "warning", lambda event, **_: warned.append(event))
    monkeypatch.setenv("CANDOR_API_KEY", "k")
    serve.read_key("k", None)
    assert warned == []
    monkeypatch.delenv("CANDOR_API_KEY")
    serve.read_key("k", None)
    assert warned == ["key_on_command_line"]
