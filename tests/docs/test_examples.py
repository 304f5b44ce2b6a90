"""Blocks that are neither commands nor programs. Each is read by what it is an example of, is
compared in another test, or is on the list of those that nothing here can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclopts import App

from candor.cli.config_file import ConfigFile
from candor.client.schema import ErrorEnvelope, RewardRequest, RewardResponse
from candor.errors import CandorError
from candor.flags import UsageError
from candor.labels.wire import LabelRequest
from candor.probes.fitting.data import labelled_row
from candor.settings import Settings
from candor.variables import configs
from candor.watch.drift_report import DriftReport
from tests.docs.blocks import PAGES, Block, blocks_of, is_shell
from tests.paths import ROOT


def read_error(text: str) -> None:
    error = ErrorEnvelope.model_validate_json(text).error
    classes = [CandorError]
    for one in classes:
        classes += one.__subclasses__()
    assert error.type in {one.type for one in classes}


def read_drift(text: str) -> None:
    """`{}` stands for the same five fields, as the page says."""
    report: dict[str, Any] = json.loads(text)
    full = next(iter(report["signals"].values()))
    report["signals"] = {name: signal or full for name, signal in report["signals"].items()}
    DriftReport.model_validate(report)


def read_row(text: str) -> None:
    labelled_row("the page", json.loads(text))


def read_answer(text: str) -> None:
    RewardResponse.model_validate({"timings": {"queue_s": 0, "forward_s": 0}, **json.loads(text)})


def read_serve_file(text: str) -> None:
    """As `candor serve --config` reads it."""
    path = Path("serve.yaml")
    path.write_text(text)
    app = App(config=[*configs(), ConfigFile(path)], help_flags=())

    @app.command(name="serve")
    def take(settings: Settings) -> Settings:
        return settings

    call, bound, _ = app.parse_args(["serve"], print_error=False, exit_on_error=False)
    settings: Settings = call(*bound.args, **bound.kwargs)
    given = yaml.safe_load(text)
    assert settings.model == given["model"]
    assert settings.kappas == given["kappa"]
    assert str(settings.api_key_file) == given["api-key-file"]


def read_prometheus(text: str) -> None:
    """A part of docker/prometheus.yml that stands beside the others."""
    part = yaml.safe_load(text)
    assert part.keys().isdisjoint(yaml.safe_load((ROOT / "docker/prometheus.yml").read_text()))
    (manager,) = part["alerting"]["alertmanagers"]
    assert manager["static_configs"][0]["targets"]


READ: dict[str, dict[str, Callable[[str], Any]]] = {
    "README.md": {'{"model"': read_answer},
    "docs/index.md": {'{"model"': read_answer},
    "docs/api.md": {
        '{"items"': RewardRequest.model_validate_json,
        '{"model"': read_answer,
        '{"error"': read_error,
        '{"probes"': LabelRequest.model_validate_json,
        '{"window"': read_drift,
    },
    "docs/train-a-probe.md": {'{"group"': read_row},
    "docs/stack.md": {"model: ": read_serve_file, "alerting:": read_prometheus},
}
"""Page, first words, and what reads the block. test_commands compares answers with a server's."""

COMPARED = {
    "docs/choosing-lambda.md": {"lambda ": "tests/docs/test_pages.py"},
    "docs/quickstart.md": {"R -": "tests/docs/test_pages.py"},
    "docs/metrics.md": {"(sum(rate(": "tests/docsite/test_metrics.py"},
}
"""What commands print, and a query: compared by another test."""

NOT_READ = {"docs/design.md": {"flowchart TD": "a drawing; tests/test_imports.py holds its arrows"}}
OTHERS = [
    block
    for page in PAGES
    for block in blocks_of(page)
    if not is_shell(block) and block.language != "python"
]


def beginning(table: dict[str, Any], block: Block) -> list[str]:
    """The words of a table that the block begins with."""
    return [words for words in table.get(block.page, ()) if block.text.startswith(words)]


def of_a_trainer(block: Block) -> bool:
    """Settings and code of a trainer, which is not installed here, and what it sends and reads:
    tests/service/trainers replays its bodies."""
    return block.page.startswith("docs/trainers")


@pytest.mark.parametrize("block", OTHERS, ids=str)
def test_every_other_block_is_read_or_on_a_list(block: Block) -> None:
    found = [words for table in (READ, COMPARED, NOT_READ) for words in beginning(table, block)]
    assert len(found) + of_a_trainer(block) == 1, f"name it in one table of {Path(__file__).name}"


@pytest.mark.parametrize("table", [READ, COMPARED, NOT_READ])
def test_no_table_names_a_block_that_is_gone(table: dict[str, Any]) -> None:
    named = {(block.page, words) for block in OTHERS for words in beginning(table, block)}
    assert named == {(page, words) for page, beginnings in table.items() for words in beginnings}


@pytest.mark.parametrize("block", [one for one in OTHERS if beginning(READ, one)], ids=str)
def test_the_block_is_read_by_what_it_is_an_example_of(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (words,) = beginning(READ, block)
    READ[block.page][words](block.text)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_error, '{"error": {"type": "no_such", "message": "", "retryable": false}}'),
        (read_row, '{"group": "a", "label": 2, "response": "x", "prompt": "y"}'),
        (read_answer, '{"results": []}'),
        (read_drift, '{"window": 1, "signals": {"a": {}}}'),
        (read_serve_file, "model: x\nkapa: {s: 1}\n"),
    ],
)
def test_a_wrong_block_is_not_read(
    read: Callable[[str], None], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, AssertionError, UsageError)):
        read(text)


def test_the_other_tests_name_the_pages_that_they_compare() -> None:
    for page, tests in COMPARED.items():
        for test in tests.values():
            assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")
