"""Settings: what refuses to start, and that the refusal says which flag and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cyclopts import App, CycloptsError

from candor import assemble, serve
from candor.flags import UsageError
from candor.probes.combine import Combination
from candor.settings import Settings, check_names, is_loopback
from candor.trainers.options import TrainerRoutes
from candor.variables import configs
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
        ({"methods": {"*": "project"}}, "--method: there is no --probe"),
        ({"methods": {"*": "remove"}, "probes": ("p",)}, "subtract, project, screen, advantage"),
        ({"methods": {"a": "project:1"}, "probes": ("p",)}, "--method a=project:1: only screen"),
        ({"methods": {"a": "screen:x"}, "probes": ("p",)}, "--method a=screen:x: only screen"),
        ({"methods": {"a": "screen:inf"}, "probes": ("p",)}, "only screen has a threshold"),
        (
            {"methods": {"a": "project"}, "probes": ("p",), "engine": "vllm"},
            "--method project: vLLM .* --engine packed",
        ),
        ({"api_key": ""}, "API key"),
        ({"api_key": "  "}, "API key"),
        ({"api_key": "schl\xfcssel"}, "API key"),
        ({"operator_key": ""}, "operator key"),
        ({"operator_key": "\xe9"}, "operator key"),
        ({"api_key": "k", "operator_key": "k"}, "--operator-key-file"),
        ({"api_key": "k", "api_key_file": Path("k")}, "give one of them"),
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
    with pytest.raises(UsageError, match=words):
        Settings(**({"model": "m"} | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"host": "::1"},
        {"host": "127.8.8.8"},
        {"host": "localhost"},
        {"host": "0.0.0.0", "api_key": "k"},
        {"host": "0.0.0.0", "api_key_file": Path("k")},
        {"host": "0.0.0.0", "insecure_no_auth": True},
        {"penalties": {"a": 0.0}, "kappas": {"b": 2.0}},
        {"port": 0},
        {"workers": 1, "prefix_cache_mb": 0.0},
        {"operator_key": "o"},
        {"api_key": "k", "operator_key": "o"},
        {"combine": "max"},
        {"methods": {"a": "screen:0.5", "*": "advantage"}, "probes": ("p",), "engine": "vllm"},
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


def test_the_inspector_is_on_where_only_this_machine_reaches_it_or_where_it_is_asked_for() -> None:
    open_host = {"host": "0.0.0.0", "api_key": "k"}
    assert made().serves_inspector
    assert not made(inspector=False).serves_inspector
    assert not made(**open_host).serves_inspector
    assert made(**open_host, inspector=True).serves_inspector


def test_loopback_is_judged_by_address_and_never_by_an_unknown_name() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "[::1]", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "local", "")] == [False] * 5


def test_a_strength_must_name_a_served_probe() -> None:
    check_names(made(penalties={"a": 1.0}), ["a", "b"], ["c"])
    with pytest.raises(UsageError, match="no such probe; served probes: a, b"):
        check_names(made(penalties={"x": 1.0}), ["b", "a"], [])
    with pytest.raises(UsageError, match="--kappa c: c is a monitor"):
        check_names(made(kappas={"c": 1.0}), ["a"], ["c"])
    with pytest.raises(UsageError, match="two probes are named a"):
        check_names(made(), ["a"], ["a"])


def test_lambda_comes_from_the_flag_from_kappa_or_is_zero(tmp_path: Path) -> None:
    folders = [str(save_probe(tmp_path / name, name, "0" * 64)) for name in "abc"]
    monitor = str(save_probe(tmp_path / "m", "m", "0" * 64))
    served = assemble.serve_probes(
        made(probes=tuple(folders), monitors=(monitor,), penalties={"a": 0.5}, kappas={"b": 0.25})
    )
    # The cards say std_R 2.0 and std_bounded_S 0.25.
    assert {name: one.default_lambda for name, one in served.everything.items()} == {
        "a": 0.5,
        "b": 2.0,
        "c": 0.0,
        "m": 0.0,
    }
    assert served.monitors == {"m"}
    assert list(served.penalised) == ["a", "b", "c"]


@pytest.mark.parametrize("by", ["flags", "environment"])
def test_methods_come_from_flags_and_from_the_environment(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {"*": "screen:0.5", "a": "project"}
    probe = ("--model=m", "--probe=p")
    if by == "flags":
        assert parsed(*probe, "--method", "screen:0.5", "--method=a=project").methods == methods
    else:
        monkeypatch.setenv("CANDOR_SERVE_METHOD", "screen:0.5 a=project")
        assert parsed(*probe).methods == methods


def test_keys_are_read_from_their_files(tmp_path: Path) -> None:
    (tmp_path / "api").write_text("from-file\n")
    (tmp_path / "operator").write_text("  another\n")
    files = {"api_key_file": tmp_path / "api", "operator_key_file": tmp_path / "operator"}
    assert made().with_keys() == made()
    assert made(api_key="k", operator_key="o").with_keys() == made(api_key="k", operator_key="o")
    assert made(**files).with_keys() == made(api_key="from-file", operator_key="another")
    with pytest.raises(UsageError, match=r"--api-key-file .*absent: cannot be read"):
        made(api_key_file=tmp_path / "absent").with_keys()
    with pytest.raises(UsageError, match=r"--operator-key-file .*absent: cannot be read"):
        made(operator_key_file=tmp_path / "absent").with_keys()
    with pytest.raises(UsageError, match="holds the API key"):
        made(api_key_file=tmp_path / "api", operator_key_file=tmp_path / "api").with_keys()


def test_the_combination_is_built_from_the_settings() -> None:
    assert made().combination == Combination("sum")
    assert made(combine="max").combination == Combination("max")
    assert made(combine="spread").combination == Combination("spread", 1.0)
    assert made(combine="spread", spread_weight=0.25).combination == Combination("spread", 0.25)


def test_only_a_key_on_the_command_line_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDOR_API_KEY", "k")
    assert not serve.on_command_line("k")
    monkeypatch.delenv("CANDOR_API_KEY")
    assert serve.on_command_line("k")
    assert not serve.on_command_line(None)


def parsed(*arguments: str) -> Settings:
    """The settings as `candor serve` makes them of its arguments and the environment."""
    app = App(config=configs())

    @app.command(name="serve")
    def take(settings: Settings) -> Settings:
        return settings

    command, bound, _ = app.parse_args(
        ["serve", *arguments], print_error=False, exit_on_error=False
    )
    settings: Settings = command(*bound.args, **bound.kwargs)
    return settings


def test_a_field_without_a_flag_has_its_own_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANDOR_API_KEY", raising=False)
    assert parsed("--model", "m") == made()
    with pytest.raises(CycloptsError, match="--model"):
        parsed()


def test_a_flag_may_be_repeated_where_its_field_holds_several_values() -> None:
    arguments = [
        *("--probe", "a", "--probe", "b", "--monitor", "c", "--host-name", "x", "--host-name=y"),
        *("--penalty", "a=1", "--kappa", "b=2", "--kappa=c=0.5"),
        *("--vllm-arg", "block-size=16", "--vllm-arg=seed=1"),
    ]
    assert parsed("--model=m", "--engine=vllm", *arguments) == made(
        engine="vllm",
        probes=("a", "b"),
        monitors=("c",),
        host_names=("x", "y"),
        penalties={"a": 1.0},
        kappas={"b": 2.0, "c": 0.5},
        vllm_args={"block_size": 16, "seed": 1},
    )
    with pytest.raises(UsageError, match="--kappa c is given twice"):
        parsed("--model=m", "--kappa=c=1", "--kappa=c=2")
    with pytest.raises(CycloptsError, match="--port"):
        parsed("--model=m", "--port=1", "--port=2")


def test_every_flag_has_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MODEL": "m",
        "PROBE": "a b",
        "KAPPA": "a=1 b=2",
        "PORT": "9",
        "API_KEY": "k",
        "DRIFT_REFERENCE": "r.json",
        "INSECURE_NO_AUTH": "true",
        "OPENRLHF_EXTRA_LOGS": "0",
        "TRAINER_TRUNCATION": "left",
    }.items():
        monkeypatch.setenv(f"CANDOR_SERVE_{name}", value)
    expected = {
        "probes": ("a", "b"),
        "kappas": {"a": 1.0, "b": 2.0},
        "port": 9,
        "api_key": "k",
        "drift_reference": Path("r.json"),
        "insecure_no_auth": True,
        "trainers": TrainerRoutes(openrlhf_extra_logs=False, truncation="left"),
    }
    assert parsed() == made(**expected)
    assert parsed("--port=10") == made(**expected | {"port": 10})  # a flag comes first


def test_the_model_needs_no_flag() -> None:
    assert parsed("m", "--port=1") == parsed("--port=1", "--model=m") == made(port=1)
    assert parsed("--probe", "a", "m", "--probe", "b") == made(probes=("a", "b"))


def test_the_operators_key_and_a_second_model_are_refused() -> None:
    for wrong in (["--operator-key=k"], ["m"], ["--no-insecure-no-auth"], ["--empty-probe"]):
        with pytest.raises(CycloptsError):
            parsed("--model=m", *wrong)
