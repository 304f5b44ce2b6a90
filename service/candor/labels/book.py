"""`LabelBook`: the judged rows of one server, and each probe's AUROC on them.

Rows are kept in memory, the newest of them; with `--label-spool` they are also appended to a file,
and read from it at the next start. A row is a line of labelled data (`candor.probes.fitting.data`)
with one more field, `judged`: how it was drawn, R, and each probe's S and hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from candor import logs
from candor.errors import InternalError, reason_of
from candor.flags import UsageError
from candor.labels.tracker import Tracker
from candor.labels.wire import Drawn, LabelReport
from candor.probes import jsonl
from candor.probes.within import prompt_auroc

log = logs.get(__name__)

MAX_ROWS = 8192
MAX_CHARS = 2**26
"""Most judged rows in memory, and most characters of their lines."""

Versions = Mapping[str, tuple[int, str, bool]]
"""By probe, monitors included: version, sha256, and whether it is a monitor."""
Line = dict[str, Any]


class LabelBook:
    """All methods run in the event loop.

    Args:
        window: prompts in a window.
        spool: the file that rows are appended to; None keeps them in memory only.

    Raises:
        UsageError: the file cannot be read, or is no such file.
    """

    def __init__(self, versions: Versions, window: int, spool: Path | None = None) -> None:
        self.window = window
        self.counts: Counter[tuple[str, str]] = Counter()
        """Judged responses since the start, by how they were drawn and by label."""
        self._rows: deque[bytes] = deque()
        self._drawn: deque[Drawn] = deque()
        self._num_chars = 0
        self._num_items = 0
        self._versions = versions
        self._trackers = {name: self._tracker(name) for name in versions}
        self._spool = spool
        if spool is not None:
            self._read_spool(spool)

    @property
    def is_empty(self) -> bool:
        """Whether no row has been judged yet."""
        return not self._rows

    def add(self, lines: Sequence[Sequence[Line]]) -> None:
        """Counts judged items: the lines of each (`line_of`).

        Raises:
            InternalError: the spool file cannot be written. Nothing is counted.
        """
        numbered = []
        for item in lines:
            self._num_items += 1
            for line in item:
                line["judged"]["item"] = self._num_items
            numbered.append([jsonl.line_of(line) for line in item])
        if self._spool is not None:
            try:
                with self._spool.open("ab") as file:
                    file.write(b"".join(row + b"\n" for item in numbered for row in item))
            except OSError as error:
                log.error("label_spool_failed", reason=reason_of(error))
                raise InternalError("the labels could not be written to --label-spool") from None
        for item, rows in zip(lines, numbered, strict=True):
            self._count(item, rows)

    def restart(self, versions: Versions, name: str) -> None:
        """Begins again for a probe that was replaced; the rows stay."""
        self._versions = versions
        if self._trackers[name].alarm is not None:
            log.info("label_alarm", probe=name, active=False, reason="the probe was replaced")
        self._trackers[name] = self._tracker(name)

    def report(self) -> LabelReport:
        """What the labels say of every probe."""
        return LabelReport(
            window=self.window,
            num_rows=len(self._rows),
            num_random=self._drawn.count("random"),
            probes={name: tracker.report() for name, tracker in self._trackers.items()},
        )

    def rows(self) -> bytes:
        """The rows that are kept, as JSONL, oldest first."""
        return b"".join(row + b"\n" for row in self._rows)

    def _tracker(self, name: str) -> Tracker:
        version, sha256, monitor = self._versions[name]
        return Tracker(version, sha256, monitor=monitor, window=self.window)

    def _count(self, item: Sequence[Line], rows: Sequence[bytes]) -> None:
        for line, row in zip(item, rows, strict=True):
            drawn = line["judged"]["drawn"]
            self.counts[drawn, str(line["label"])] += 1
            self._rows.append(row)
            self._drawn.append(drawn)
            self._num_chars += len(row)
        while len(self._rows) > MAX_ROWS or self._num_chars > MAX_CHARS:
            self._num_chars -= len(self._rows.popleft())
            self._drawn.popleft()
        if item[0]["judged"]["drawn"] == "random":
            self._track(item)

    def _track(self, item: Sequence[Line]) -> None:
        labels = [line["label"] for line in item]
        for name, sha256 in item[0]["judged"]["probes"].items():
            tracker = self._trackers.get(name)
            if tracker is None or tracker.sha256 != sha256:
                continue  # scored by a version that has been replaced
            auroc = prompt_auroc([line["judged"]["scores"][name] for line in item], labels)
            if auroc is None:
                continue
            before = tracker.alarm
            tracker.add(auroc)
            if before is None and tracker.alarm is not None:
                log.warning("label_alarm", probe=name, active=True, reason=tracker.alarm)

    def _read_spool(self, spool: Path) -> None:
        """Counts the rows of an earlier run. A last line that a kill cut short is cut off."""
        try:
            spool.touch()
            with spool.open("rb+") as file:
                content = file.read()
                end = content.rfind(b"\n") + 1
                if end < len(content):
                    log.warning("label_spool_cut", num_bytes=len(content) - end)
                    file.truncate(end)
            lines = [(line, row) for line, row in _parsed(content[:end])]
            for number, group in groupby(lines, key=lambda pair: pair[0]["judged"]["item"]):
                members = list(group)
                self._num_items = max(self._num_items, int(number))
                self._count([line for line, _ in members], [row for _, row in members])
        except OSError as error:
            raise UsageError(f"--label-spool {spool}: {reason_of(error)}") from None
        except (ValueError, KeyError, TypeError, IndexError):
            raise UsageError(
                f"--label-spool {spool}: not a file that this flag wrote; give another"
            ) from None
        os.chmod(spool, 0o600)


def _parsed(content: bytes) -> Iterator[tuple[Line, bytes]]:
    for row in content.splitlines():
        line = jsonl.parse(row)
        if line["judged"]["drawn"] not in ("random", "chosen") or line["label"] not in (0, 1):
            raise ValueError("not a judged row")
        yield line, row


def line_of(
    context: Mapping[str, Any],
    response: Any,
    label: int,
    *,
    drawn: Drawn,
    base_reward: float,
    scores: Mapping[str, float],
    probes: Mapping[str, str],
) -> Line:
    """One judged row.

    Args:
        context: the fields of the item that are its context.
        scores: S by probe.
        probes: the hash of each probe that gave `scores`.
    """
    group = hashlib.sha256(json.dumps(context, sort_keys=True).encode()).hexdigest()[:16]
    judged = {"drawn": drawn, "base_reward": base_reward, "scores": scores, "probes": probes}
    return {"group": group, **context, "response": response, "label": label, "judged": judged}
