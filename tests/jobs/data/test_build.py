"""`candor data build` as a user runs it: rows, manifest, last line, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.data.build import BuildOptions, build, kinds, wanted_kinds
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import file_sha256
from candor.jobs.running.manifest import manifest_path
from candor.probes.fitting.data import data_sha256, load_rows
from candor.probes.kinds.public.table import SOURCES
from candor.probes.kinds.table import KINDS
from tests.paths import ROOT

CHOICES = ["subjective-choice", "objective-choice"]


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def sentences(folder: Path, count: int = 8) -> Path:
    for name, word in (("pos", "good"), ("neg", "bad")):
        lines = [f"film {number} is {word} ." for number in range(count)]
        (folder / f"rt-polarity.{name}").write_text("\n".join(lines) + "\n")
    return folder


def test_all_kinds_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "candor", "data", "build", "--out", str(out), "--seed", "5"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout.splitlines()[-1])
    rows = load_rows(out)
    assert rows == [row for kind in KINDS.values() if not kind.family for row in kind.build(5)]
    assert told["out"] == str(out)
    assert told["rows"] == len(rows)
    assert told["groups"] == len({row.group for row in rows})
    assert told["sha256"] == data_sha256(rows)
    assert list(told["kinds"]) == wanted_kinds([])
    for name, counts in told["kinds"].items():
        of_kind = [row for row in rows if row.kind == name]
        assert counts == {
            "rows": len(of_kind),
            "groups": len({row.group for row in of_kind}),
            "label_1": sum(row.label for row in of_kind),
        }
    manifest = json.loads(manifest_path(out).read_text())
    assert manifest["command"] == "data build"
    assert manifest["settings"]["data_sha256"] == told["sha256"]
    assert manifest["output"]["sha256"] == file_sha256(out)


def test_chosen_kinds_come_in_the_table_s_order_and_the_same_bytes_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, other = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    assert build(BuildOptions(out=first, kind=CHOICES[::-1])) == Exit.DONE
    assert list(last_line(capsys)["kinds"]) == CHOICES
    assert build(BuildOptions(out=second, kind=CHOICES)) == Exit.DONE
    assert build(BuildOptions(out=other, kind=CHOICES, seed=1)) == Exit.DONE
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()


def test_a_public_set_adds_its_rows_and_its_files_are_in_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    source = [f"rotten-tomatoes={sentences(tmp_path)}"]
    assert build(BuildOptions(out=out, kind=["subjective-choice"], source=source)) == Exit.DONE
    told = last_line(capsys)
    assert told["kinds"]["objective-choice"] == {"rows": 64, "groups": 16, "label_1": 32}
    assert "subjective-choice" in told["kinds"]
    inputs = json.loads(manifest_path(out).read_text())["inputs"]
    assert {role: Path(given["path"]).name for role, given in inputs.items()} == {
        f"rotten-tomatoes/rt-polarity.{name}": f"rt-polarity.{name}" for name in ("pos", "neg")
    }


def test_a_public_set_alone_and_drawn_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    source = [f"rotten-tomatoes={sentences(tmp_path)}"]
    assert (
        build(BuildOptions(out=out, kind=["none"], source=source, max_source_rows=20)) == Exit.DONE
    )
    told = last_line(capsys)
    assert list(told["kinds"]) == ["objective-choice"]
    assert 19 <= told["rows"] <= 20
    assert len(load_rows(out)) == told["rows"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"kind": ["poems"]}, Exit.USAGE, "--kind 'poems': one of poem-feedback, "),
        ({"kind": ["none"]}, Exit.USAGE, "no rows: give a --kind or a --source"),
        ({"source": ["rotten-tomatoes"]}, Exit.USAGE, "use NAME=PATH or NAME=hub"),
        ({"source": ["imdb=x"]}, Exit.USAGE, "--source 'imdb': one of nlp-survey, "),
        ({"source": ["caa=x", "caa=y"]}, Exit.USAGE, "'caa': given twice"),
        ({"source": ["caa=missing.json"]}, Exit.USAGE, "no such file: missing.json"),
        ({"source": ["caa=hub"]}, Exit.USAGE, "not on the hub"),
        ({"source": ["nlp-survey=hub"]}, Exit.UNREACHABLE, "hub: Anthropic/model-written-evals"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    code: Exit,
    message: str,
) -> None:
    out = tmp_path / "rows.jsonl"
    assert build(BuildOptions(out=out, **({"kind": CHOICES} | options))) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("candor: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_malformed_public_line_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"question": "a"}\n')
    assert build(BuildOptions(out=tmp_path / "out", source=[f"nlp-survey={path}"])) == Exit.USAGE
    assert f"{path}:1: answer_matching_behavior: " in capsys.readouterr().err


def test_too_few_rows_for_one_prompt_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = [f"rotten-tomatoes={sentences(tmp_path)}"]
    assert build(BuildOptions(out=tmp_path / "out", source=source, max_source_rows=0)) == Exit.USAGE
    assert "--max-source-rows 0: too few" in capsys.readouterr().err


def test_an_out_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(BuildOptions(out=tmp_path / "absent" / "rows.jsonl", kind=CHOICES)) == Exit.IO
    assert "absent" in capsys.readouterr().err
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        try:
            assert build(BuildOptions(out=tmp_path / "rows.jsonl", kind=CHOICES)) == Exit.IO
        finally:
            tmp_path.chmod(0o700)


def test_kinds_lists_every_kind_and_public_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert kinds() == Exit.DONE
    lines = capsys.readouterr().out.splitlines()
    first_words = [line.split()[0] for line in lines if line]
    assert [word for word in first_words if word != "Public"] == [*KINDS, *SOURCES]


def test_a_family_is_asked_for_by_its_name() -> None:
    of_family = [name for name, kind in KINDS.items() if kind.family == "grounded"]
    assert len(of_family) == 12
    assert wanted_kinds(["grounded"]) == of_family
    assert wanted_kinds(["grounded", "open-ended"]) == ["open-ended", *of_family]
    assert not set(wanted_kinds([])) & set(of_family)
