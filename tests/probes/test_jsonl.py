"""The one reader: every reader of the tree takes the same files in the same spellings."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from candor.flags import read_key_file
from candor.jobs.probe.report import read_report
from candor.jobs.running.files import read_rows
from candor.jobs.running.ledger import Ledger
from candor.probes import artifact
from candor.probes.fitting.data import load_files, load_rows
from candor.probes.jsonl import document, line_of, parse
from candor.probes.kinds.public.source import PublicItem, read_items
from candor.probes.sources.tables import objects
from candor.watch.drift_reference import read_reference
from tests.service.serving import loaded_probe

SPELLINGS: dict[str, Callable[[list[str]], bytes]] = {
    "plain": lambda rows: "".join(f"{row}\n" for row in rows).encode(),
    "byte order mark": lambda rows: b"\xef\xbb\xbf" + "".join(f"{row}\n" for row in rows).encode(),
    "CRLF": lambda rows: "".join(f"{row}\r\n" for row in rows).encode(),
    "blank lines": lambda rows: ("\n \n" + "".join(f"{row}\n\t\n\r\n" for row in rows)).encode(),
    "no last newline": lambda rows: "\n".join(rows).encode(),
    "all of it": lambda rows: b"\xef\xbb\xbf\r\n" + "\r\n\r\n".join(rows).encode(),
}
LABELLED = [
    {"group": "g", "label": label, "response": f"r\u00e9ply {label} \u2028", "prompt": "p"}
    for label in (0, 1)
]
KEYED = [{"key": f"k{n}", "text": f"\u00e9 {n} \u2028"} for n in range(3)]


class Item(PublicItem):
    text: str


@pytest.fixture(params=SPELLINGS)
def spell(request: pytest.FixtureRequest) -> Callable[[list[dict[str, Any]]], bytes]:
    spelling = SPELLINGS[request.param]
    return lambda rows: spelling([json.dumps(row, ensure_ascii=False) for row in rows])


def test_every_reader_of_lines_reads_every_spelling_alike(
    tmp_path: Path, spell: Callable[[list[dict[str, Any]]], bytes]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(spell(KEYED))
    assert read_rows(path) == KEYED
    assert [item.text for _, item in read_items(path, Item)] == [row["text"] for row in KEYED]
    done = [{**row, "input_sha256": "s"} for row in KEYED]
    path.write_bytes(spell(done))  # an earlier output that an editor has saved
    with Ledger(path, dict.fromkeys(("k0", "k1", "k2", "k3"), "s")) as ledger:
        assert ledger.todo == ["k3"]
        ledger.append({"key": "k3"})
        ledger.finish()
    assert read_rows(path) == [*done, {"key": "k3", "input_sha256": "s"}]
    path.write_bytes(spell(LABELLED))
    assert [row.model_dump(exclude_defaults=True) for row in load_rows(path)] == LABELLED


def test_every_reader_of_a_document_takes_a_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    probe = loaded_probe("sycophancy")
    artifact.save(tmp_path, probe.probe, probe.card)
    columns = {"base_reward": [0.5] * 256, "response_tokens": [3.0] * 256}
    reference = {
        "version": 1,
        "weights_sha256": "0" * 64,
        "template_sha256": "1" * 64,
        "probes": {},
        "columns": columns,
    }
    (tmp_path / "reference.json").write_text(json.dumps(reference, indent=1))
    (tmp_path / "report.json").write_text('{\n"chosen": {}\n}\n')
    (tmp_path / "key").write_text("s3cret\n")
    for path in tmp_path.glob("*"):
        if path.suffix != ".safetensors":
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert artifact.load(tmp_path).card == probe.card
    assert read_reference(tmp_path / "reference.json").columns == columns
    assert read_report(tmp_path / "report.json") == {"chosen": {}}
    assert read_key_file("--key", tmp_path / "key") == "s3cret"


def test_a_place_is_the_line_in_the_file_whatever_was_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\r\n" + b"\r\n\r\n".join(json.dumps(row).encode() for row in LABELLED))
    assert load_files([path])[1] == [f"{path}:2", f"{path}:4"]
    assert [place for place, _ in objects(path)] == [f"{path}:2", f"{path}:4"]


def test_what_python_writes_beyond_the_standard_is_read() -> None:
    found = parse(b'{"a": NaN, "b": -Infinity, "c": "\\ud83d", "d": 1}')
    assert math.isnan(found.pop("a"))
    assert found == {"b": -math.inf, "c": "\ud83d", "d": 1}


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"a": nan}', b"'a'", b"\xff\xfe{\x00}\x00", b'{"a": "\xe9"}', b"[" * 9999]
)
def test_what_is_not_json_in_utf8_is_refused_in_words(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        parse(text)
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(ValueError, match=r"not JSON|is UTF-16"):
        document(tmp_path / "x")


def test_a_line_keeps_surrogates_and_writes_no_nan() -> None:
    value = {"b": "\ud83d \u00e9", "a": [math.nan, math.inf, 1.5]}
    assert line_of({"b": "\u00e9", "a": math.nan}) == '{"b":"\u00e9","a":null}'.encode()
    assert line_of(value) == b'{"b":"\\ud83d \\u00e9","a":[null,null,1.5]}'
    assert line_of(value, sort_keys=True) == b'{"a":[null,null,1.5],"b":"\\ud83d \\u00e9"}'
    with pytest.raises(TypeError):
        line_of({"a": {1, 2}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"key": "a"}'.encode("utf-16"), "UTF-16"),
        ('{"key": "a"}'.encode("utf-16-le"), "UTF-16"),
        ('{"key": "a"}'.encode("utf-16-be"), "UTF-16"),
        (gzip.compress(b'{"key": "a"}', mtime=0), "gzip.*unpack"),
        (b"PAR1\x15\x04", "Parquet"),
    ],
    ids=["UTF-16", "UTF-16 LE", "UTF-16 BE", "gzip", "Parquet"],
)
def test_a_file_of_another_form_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    if "UTF-16" in message:  # the others are unpacked
        with pytest.raises(ValueError, match=rf"rows\.jsonl is .*{message}"):
            list(objects(path))
    with pytest.raises(ValueError, match=rf"rows\.jsonl is .*{message}"):
        document(path)
