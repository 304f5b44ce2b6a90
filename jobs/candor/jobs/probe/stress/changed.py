"""Test rows with changed responses: `Changed`, and the AUROC of a probe on them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from candor.errors import CandorError
from candor.jobs.probe.material import LabelledRows, encode, renderer_of
from candor.jobs.probe.reader import RowReader
from candor.probes.fitting import evaluate
from candor.probes.fitting.collect import Floats
from candor.probes.probe import Pooling, Probe

Change = Callable[[int, str], str]
"""(row's number, response) -> the changed response."""


def drawn(data: LabelledRows, test: Sequence[int], per_label: int, seed: int) -> list[int]:
    """At most `per_label` test rows of each label whose response is a text, in row order."""
    found: list[int] = []
    for label in (0, 1):
        rows = [
            index
            for index in test
            if data.labels[index] == label and isinstance(data.rows[index].response, str)
        ]
        random.Random(seed).shuffle(rows)
        found += rows[:per_label]
    return sorted(found)


@dataclass(frozen=True)
class Changed:
    """Rows of which every version can be scored, and their versions.

    Attributes:
        rows: the rows' numbers.
        num_left_out: rows that were drawn and of which a version cannot be scored: too long, or
            without a token.
        sequences: by name of the version, the rows' token ids and spans. The probe reads the whole
            response.
    """

    rows: list[int]
    num_left_out: int
    sequences: dict[str, list[tuple[tuple[int, ...], int, int]]]

    @property
    def num_tokens(self) -> dict[str, float]:
        """Mean tokens of a response, by version."""
        return {
            name: float(np.mean([end - start for _, start, end in found])) if found else 0.0
            for name, found in self.sequences.items()
        }


def change(
    data: LabelledRows, reader: RowReader, rows: Sequence[int], changes: Mapping[str, Change]
) -> Changed:
    """The versions of the rows that can be scored in each of them."""
    renderer = renderer_of(reader.rm)
    kept: list[int] = []
    sequences: dict[str, list[tuple[tuple[int, ...], int, int]]] = {name: [] for name in changes}
    for index in rows:
        row = data.rows[index]
        assert isinstance(row.response, str)
        found = {}
        for name, make in changes.items():
            text = make(index, row.response)
            version = row.model_copy(update={"response": text, "span": None})
            try:
                found[name] = encode(renderer, version, want_tokens=False)
            except CandorError:
                break
        if len(found) < len(changes):
            continue
        kept.append(index)
        for name, item in found.items():
            sequences[name].append((item.token_ids, item.response_start, item.response_end))
    return Changed(kept, len(rows) - len(kept), sequences)


def auroc_of(
    data: LabelledRows, rows: Sequence[int], scores: Sequence[float], seed: int
) -> dict[str, float | None]:
    """The AUROC and its interval over groups; None for each where a label is missing."""
    labels = data.labels[list(rows)]
    if len(set(labels.tolist())) < 2:
        return {"auroc": None, "auroc_low": None, "auroc_high": None}
    values: Floats = np.array(scores, dtype=np.float32)
    contexts = [data.rows[index].context for index in rows]
    measured: dict[str, Any] = evaluate.summarise(
        values, labels, contexts, data.groups(rows), seed=seed
    )
    return {name: measured[name] for name in ("auroc", "auroc_low", "auroc_high")}


def scored(
    reader: RowReader, changed: Changed, name: str, probe: Probe, poolings: Sequence[Pooling]
) -> dict[Pooling, list[float]]:
    """S of one version under each pooling; empty lists without rows."""
    if not changed.rows:
        return {pooling: [] for pooling in poolings}
    return dict(reader.scores(changed.sequences[name], probe, poolings, what=name))
