"""The ledger: what survives a kill, a torn line, a full disk, a second writer and changed
inputs."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from candor.flags import UsageError
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row, read_rows, replacing
from candor.jobs.running.ledger import Ledger

WANTED = {"a": "sha-a", "b": "sha-b", "c": "sha-c"}


def rows_of(path: Path) -> list[Row]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def fill(out: Path, keys: str, wanted: dict[str, str] = WANTED) -> None:
    with Ledger(out, wanted) as ledger:
        for key in keys:
            ledger.append({"key": key, "value": key * 3})


def test_rows_end_in_input_order_whatever_order_they_came_in(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out.jsonl"
    with Ledger(out, WANTED) as ledger:
        for key in "cab":
            assert key in ledger.todo
            ledger.append({"key": key})
        assert ledger.todo == []
        assert not out.exists()
        counts = ledger.finish()
    assert (counts.num_done, counts.num_failed) == (3, 0)
    assert rows_of(out) == [{"key": key, "input_sha256": WANTED[key]} for key in "abc"]
    assert os.listdir(out.parent) == ["out.jsonl"]


def test_an_unfinished_run_leaves_a_journal_and_the_next_one_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    fill(out, "b")
    assert not out.exists()
    with Ledger(out, WANTED) as ledger:
        assert ledger.todo == ["a", "c"]
        with pytest.raises(ValueError, match="2 rows are neither done nor failed"):
            ledger.finish()


def test_a_run_that_did_nothing_leaves_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "out.jsonl", WANTED):
        pass
    assert os.listdir(tmp_path) == []


def test_a_torn_last_line_is_cut_off_kept_aside_and_done_again(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    fill(out, "ab")
    journal = tmp_path / "out.jsonl.part"
    whole = journal.read_bytes()
    for cut in range(whole.index(b"\n") + 2, len(whole)):
        journal.write_bytes(whole[:cut])
        with Ledger(out, WANTED) as ledger:
            assert ledger.todo == ["b", "c"], f"cut at {cut}"
            ledger.append({"key": "b", "value": "bbb"})
        assert journal.read_bytes() == whole
    torn = (tmp_path / "out.jsonl.torn").read_bytes().splitlines()
    assert torn[0] == whole[whole.index(b"\n") + 1 :][:1]
    assert torn[-1] == whole[whole.index(b"\n") + 1 : -1]


def test_a_torn_line_longer_than_one_read_is_cut_off_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    fill(out, "a")
    journal = tmp_path / "out.jsonl.part"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"key":"b","value":"' + b"x" * 200_000)
    with Ledger(out, WANTED) as ledger:
        assert ledger.todo == ["b", "c"]
    assert journal.read_bytes() == whole
    journal.write_bytes(b"y" * 200_000)
    with Ledger(out, WANTED) as ledger:
        assert ledger.todo == ["a", "b", "c"]


def test_without_the_cut_the_next_row_would_be_glued_to_the_tail_and_refused(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.jsonl"
    fill(out, "a")
    journal = tmp_path / "out.jsonl.part"
    glued = journal.read_bytes() + b'{"key":"b","val' + b'{"key":"b"}\n'
    journal.write_bytes(glued)
    with pytest.raises(JobStopped, match=r"out\.jsonl\.part:2: not JSON") as caught:
        Ledger(out, WANTED)
    assert caught.value.code == Exit.IO
    assert journal.read_bytes() == glued


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"null", b'{"key": 3}', b'{"key": ""}', b"{", b"\0\0"]
)
def test_a_malformed_line_in_an_earlier_output_is_refused_with_its_place(
    tmp_path: Path, line: bytes
) -> None:
    out = tmp_path / "out.jsonl"
    content = b'{"key":"a","input_sha256":"sha-a"}\n' + line + b"\n"
    out.write_bytes(content)
    with pytest.raises(JobStopped, match=r"out\.jsonl:2: "):
        Ledger(out, WANTED)
    assert out.read_bytes() == content
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Ledger(out, WANTED) as ledger:
        ledger.append({"key": "a", "error": {"type": "x", "message": ""}})
        ledger.append({"key": "a", "value": 1})
        ledger.append({"key": "b", "value": 2})
        ledger.append({"key": "c", "error": {"type": "x", "message": ""}})
        assert ledger.todo == ["c"]
        assert ledger.untried == []
        counts = ledger.finish()
    assert (counts.num_done, counts.num_failed) == (2, 1)
    assert [row.get("value") for row in rows_of(out)] == [1, 2, None]


def test_a_new_run_tries_only_the_failed_rows_of_a_finished_output_again(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Ledger(out, WANTED) as ledger:
        for key in "abc":
            ledger.append({"key": key, **({"error": {}} if key == "b" else {"value": key})})
        ledger.finish()
    with Ledger(out, WANTED) as ledger:
        assert ledger.todo == ["b"]
        ledger.append({"key": "b", "value": "b"})
        assert ledger.finish().num_failed == 0
    assert [row["value"] for row in rows_of(out)] == ["a", "b", "c"]


def test_rows_of_a_changed_input_are_done_anew_and_rows_no_longer_wanted_are_left_out(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.jsonl"
    with Ledger(out, WANTED) as ledger:
        for key in "abc":
            ledger.append({"key": key})
        ledger.finish()
    with Ledger(out, {"b": "changed", "a": "sha-a"}) as ledger:
        assert ledger.todo == ["b"]
        assert ledger.num_outdated == 1
        ledger.append({"key": "b", "value": "new"})
        ledger.finish()
    assert [row["key"] for row in rows_of(out)] == ["b", "a"]


def test_two_runs_cannot_write_one_journal(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Ledger(out, WANTED) as ledger:
        with pytest.raises(JobStopped, match="another run is writing"):
            Ledger(out, WANTED)
        for key in "abc":
            ledger.append({"key": key})
        ledger.finish()
    with Ledger(out, WANTED) as ledger:
        assert ledger.todo == []


def test_a_journal_removed_by_the_run_that_just_finished_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    really = fcntl.flock
    calls = 0

    def finish_meanwhile(handle: int, how: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            (tmp_path / "out.jsonl.part").unlink()
        really(handle, how)

    monkeypatch.setattr(fcntl, "flock", finish_meanwhile)
    with Ledger(out, WANTED) as ledger:
        ledger.append({"key": "a"})
        assert (tmp_path / "out.jsonl.part").stat().st_size > 0
    assert calls == 2


FULL_DISK = """
import resource, sys
from pathlib import Path
from candor.jobs.running.exits import JobStopped
from candor.jobs.running.ledger import Ledger
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
ledger = Ledger(Path(sys.argv[1]), {str(i): "sha" for i in range(10)})
for key in list(ledger.todo):
    try:
        ledger.append({"key": key, "value": "v" * 100})
    except JobStopped as stopped:
        assert stopped.code == 74, stopped.code
        print(stopped)
        break
    print(key)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
try:
    ledger.append({"key": "9", "value": ""})  # there is room again: must not be glued to the tail
except JobStopped:
    pass
else:
    sys.exit("wrote on after a failed write")
ledger.close()
"""


@pytest.mark.parametrize("limit", [500, 537, 600])
def test_a_full_disk_stops_with_the_files_name_and_loses_no_acknowledged_row(
    tmp_path: Path, limit: int
) -> None:
    out = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(out), str(limit)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    *acknowledged, message = done.stdout.splitlines()
    assert acknowledged
    assert "out.jsonl.part: File too large" in message
    wanted = {str(i): "sha" for i in range(10)}
    with Ledger(out, wanted) as ledger:
        assert ledger.todo == [key for key in wanted if key not in acknowledged]
        for key in ledger.todo:
            ledger.append({"key": key, "value": "v" * 100})
        ledger.finish()
    assert len(rows_of(out)) == 10


def test_a_full_disk_at_the_end_leaves_the_old_output_and_the_journal(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_bytes(b'{"key":"a","input_sha256":"old"}\n')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger(out, WANTED) as ledger:
        for key in "abc":
            ledger.append({"key": key, "value": "v" * 100})
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
        try:
            with pytest.raises(JobStopped, match=r"out\.jsonl: File too large.*3 rows are safe"):
                ledger.finish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_bytes() == b'{"key":"a","input_sha256":"old"}\n'
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "out.jsonl.part"]
    with Ledger(out, WANTED) as ledger:
        assert ledger.todo == []
        ledger.finish()
    assert len(rows_of(out)) == 3


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    def half() -> None:
        with replacing(path) as file:
            file.write(b"ne")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "old"
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"key":"a"}\n\n{"key":"a"}\n', r":3: key 'a' was used before"),
        (b'{"key":"a"}\n{"key":', ":2: not JSON"),
        (b'{"key":"a","x":nan}\n', ":1: not JSON"),
        (b'{"key":"\\ud800"}\n', ":1: the text under 'key' has a lone surrogate"),
        ('{"key":"a"}'.encode("utf-16"), "is UTF-16"),
        (b'{"key":"a"}\n{"messages":[]}\n', ":2: has no 'key', which other rows of the file have"),
        (b'{"key":""}\n', ":1: not an object with a text under 'key'"),
        (b'{"messages":[]}\n', ":1: .* 'messages' is not a list of messages"),
        (b"\n", "no rows"),
    ],
)
def test_a_wrong_input_file_is_refused_with_file_and_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_rows(path)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False)), max_size=5))
def test_any_text_and_number_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, extras: list[dict[str, str | float]]
) -> None:
    out = tmp_path_factory.mktemp("ledger") / "out.jsonl"
    rows = [{"extra": extra, "key": f"k{i}"} for i, extra in enumerate(extras)]
    finite = [
        r for r in rows if all(v not in (float("inf"), -float("inf")) for v in r["extra"].values())
    ]
    with Ledger(out, {str(row["key"]): "sha" for row in finite}) as ledger:
        for row in finite:
            ledger.append(dict(row))
        ledger.finish()
    assert rows_of(out) == [{**row, "input_sha256": "sha"} for row in finite]


class LedgerAgainstADict(RuleBasedStateMachine):
    """Any sequence of appends, failures, kills, torn tails and finished runs, against a plain
    dict."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.out = Path(self.folder.name) / "out.jsonl"
        self.wanted = {str(i): "v1" for i in range(6)}
        self.model: dict[str, tuple[str, bool, int]] = {}  # key -> input, failed, value
        self.ledger = Ledger(self.out, self.wanted)

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.out, self.wanted)

    def known(self) -> dict[str, tuple[str, bool, int]]:
        return {k: v for k, v in self.model.items() if v[0] == self.wanted[k]}

    @rule(key=st.integers(0, 5).map(str), failed=st.booleans(), value=st.integers(0, 9))
    def append(self, key: str, failed: bool, value: int) -> None:
        self.ledger.append({"key": key, "value": value, **({"error": {}} if failed else {})})
        self.model[key] = (self.wanted[key], failed, value)

    @rule()
    def killed(self) -> None:
        self.reopen()

    @rule(tail=st.binary(min_size=1, max_size=30).filter(lambda tail: b"\n" not in tail))
    def killed_with_a_torn_tail(self, tail: bytes) -> None:
        with self.ledger.journal.open("ab") as file:
            file.write(tail)
        self.reopen()

    @rule(key=st.integers(0, 5).map(str))
    def input_changes(self, key: str) -> None:
        self.wanted[key] += "'"
        self.reopen()

    @precondition(lambda self: not self.ledger.untried)
    @rule()
    def finish(self) -> None:
        self.ledger.finish()
        assert [(row["key"], row["value"]) for row in rows_of(self.out)] == [
            (key, self.model[key][2]) for key in self.wanted
        ]
        self.reopen()

    @invariant()
    def what_is_to_do_is_what_the_model_says(self) -> None:
        known = self.known()
        assert self.ledger.untried == [key for key in self.wanted if key not in known]
        assert self.ledger.todo == [k for k in self.wanted if k not in known or known[k][1]]


LedgerAgainstADict.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)
TestLedgerAgainstADict = LedgerAgainstADict.TestCase
