"""`--config FILE.yaml`: the same options, after flags and variables; and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from cyclopts import App

from candor.cli.config_file import ConfigFile, take_config_flag
from candor.flags import UsageError
from candor.settings import Settings
from candor.trainers.options import TrainerRoutes
from candor.variables import configs

YAML = """
model: path/to/model
probe: [probes/sycophancy, probes/length]
monitor: probes/monitor
kappa: {sycophancy: 1.0, length: 0.5}
method: [length=screen:0.5]
port: 8001
drain_s: 5
template-date: 2026-11-30
openrlhf-extra-logs: false
insecure-no-auth: true
"""
EXPECTED = {
    "model": "path/to/model",
    "probes": ("probes/sycophancy", "probes/length"),
    "monitors": ("probes/monitor",),
    "kappas": {"sycophancy": 1.0, "length": 0.5},
    "methods": {"length": "screen:0.5"},
    "port": 8001,
    "drain_s": 5.0,
    "insecure_no_auth": True,
    "trainers": TrainerRoutes(openrlhf_extra_logs=False),
}


def parsed(file: Path, *arguments: str) -> Settings:
    """The settings of `candor serve --config FILE` with these flags."""
    app = App(config=[*configs(), ConfigFile(file)], help_flags=())

    @app.command(name="serve")
    def take(settings: Settings) -> Settings:
        return settings

    call, bound, _ = app.parse_args(["serve", *arguments], print_error=False, exit_on_error=False)
    settings: Settings = call(*bound.args, **bound.kwargs)
    return settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text(YAML)
    return path


def test_a_file_gives_every_form_of_option(file: Path) -> None:
    found = parsed(file)
    assert {name: getattr(found, name) for name in EXPECTED} == EXPECTED
    assert str(found.template_date) == "2026-11-30"


def test_a_flag_comes_first_then_the_environment_then_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDOR_SERVE_PORT", "8002")
    monkeypatch.setenv("CANDOR_SERVE_DRAIN_S", "7")
    found = parsed(file, "other/model", "--port", "8003", "--kappa", "sycophancy=2")
    assert (found.model, found.port, found.drain_s) == ("other/model", 8003, 7.0)
    # An option is taken whole: the file's length=0.5 is not mixed in.
    assert found.kappas == {"sycophancy": 2.0}
    assert found.probes == EXPECTED["probes"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot: 1", "prot: no option of candor serve; did you mean port?"),
        ("port: [1, 2]", "port: takes one value, and the file has 2"),
        ("port:", "port: must be a text, a number, a list or a mapping, and is no value"),
        ("api-key: secret", "api-key: write the key into a file of its own; api-key-file"),
        ("operator-key: x", "operator-key: no option of candor serve"),
        ("- port", "write one option per line, such as port: 8001"),
        ("1: 2", "write one option per line"),
        ("port: : 1", "is no YAML"),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_name(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        parsed(file, "m")
    assert words in str(refused.value)
    assert str(file) in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.yaml: cannot be read"):
        parsed(tmp_path / "absent.yaml", "m")


def test_the_flag_is_taken_out_of_the_command_line() -> None:
    def taken(*arguments: str, **environ: str) -> tuple[list[str], Path | None]:
        return take_config_flag("serve", arguments, environ)

    assert taken("serve", "m") == (["serve", "m"], None)
    assert taken("serve", "--config", "a.yaml", "m") == (["serve", "m"], Path("a.yaml"))
    assert taken("serve", "--config=a.yaml") == (["serve"], Path("a.yaml"))
    assert taken("serve", CANDOR_SERVE_CONFIG="b.yaml") == (["serve"], Path("b.yaml"))
    assert taken("serve", "--config=a.yaml", CANDOR_SERVE_CONFIG="b") == (["serve"], Path("a.yaml"))
    assert taken("serve", "--", "--config") == (["serve", "--", "--config"], None)
    with pytest.raises(UsageError, match="given twice"):
        taken("serve", "--config=a", "--config", "b")
    with pytest.raises(UsageError, match="give a YAML file"):
        taken("serve", "--config")
