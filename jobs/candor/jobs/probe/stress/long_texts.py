"""The probe on long texts: test responses among neutral sentences, 4 and 16 times as long.

The mean over a long response dilutes what one sentence of it shows; other poolings do not, or less
(arXiv 2601.11516). The same weights are pooled in every way, so the table says which pooling a
probe of long texts should have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from candor.jobs.probe.material import LabelledRows
from candor.jobs.probe.reader import RowReader
from candor.jobs.probe.stress.changed import Change, auroc_of, change, drawn, scored
from candor.jobs.probe.stress.filler import dilute
from candor.probes.fitting.select import POOLINGS
from candor.probes.probe import Probe

FACTORS = (1, 4, 16)
ROWS_PER_LABEL = 50
"""Enough to see a fall; the longest version of each takes 16 times its tokens."""
MIN_ROWS = 20
"""With fewer rows that fit the window, the longest factor is left out."""


def long_texts(
    data: LabelledRows, reader: RowReader, probe: Probe, test: Sequence[int], seed: int
) -> dict[str, Any]:
    """The report's key `long_texts`.

    Args:
        test: the test rows of the kinds that the probe was fitted on.
    """
    rows = drawn(data, test, ROWS_PER_LABEL, seed)
    for factors in (FACTORS, FACTORS[:-1], FACTORS[:-2]):
        changes = {f"{factor}x": _diluted(factor, seed) for factor in factors}
        changed = change(data, reader, rows, changes)
        if len(changed.rows) >= MIN_ROWS:
            break
    lengths = changed.num_tokens
    return {
        "num_rows": len(changed.rows),
        "num_left_out": changed.num_left_out,
        "lengths": [
            {
                "factor": factor,
                "mean_tokens": lengths[f"{factor}x"],
                "poolings": {
                    pooling: auroc_of(data, changed.rows, scores, seed)
                    for pooling, scores in scored(
                        reader, changed, f"{factor}x", probe, POOLINGS
                    ).items()
                },
            }
            for factor in factors
        ],
    }


def _diluted(factor: int, seed: int) -> Change:
    return lambda index, text: dilute(text, factor, seed + index)
