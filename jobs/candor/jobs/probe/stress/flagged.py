"""False alarms by the direction of the prompt: which innocent responses a probe flags.

A probe that separates its classes well over all rows may still flag one sort of innocent response
in most cases, such as those that repeat what somebody else believes. So the test rows of label 0
are counted by `direction`, each beside the rows of label 1 of the same kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from candor.jobs.probe.material import LabelledRows
from candor.probes.fitting.collect import Floats
from candor.probes.fitting.evaluate import rate_above, threshold_at_tpr
from candor.probes.statistics.intervals import t_intervals

CAUGHT = 0.8
"""Share of the validation rows of label 1 at or above the threshold."""


def flagged_by_direction(
    data: LabelledRows, scores: Floats, test: Sequence[int]
) -> list[dict[str, Any]]:
    """For each direction with test rows of label 0: the share of these rows that is flagged.

    A row is flagged at or above the threshold that `CAUGHT` of the validation rows of label 1
    reach, of the kinds that have the direction. `caught` is the share of flagged rows among the
    test rows of label 1 of these kinds.

    Args:
        data: the labelled rows.
        scores: [n] float32, S of every row.
        test: indices of the test rows.

    Returns:
        `direction`, `num_rows`, `num_groups`, `flagged`, `low`, `high` (95 % t interval over
        groups, None with fewer than two), `caught` and `threshold`. A direction whose kinds have no
        validation or no test row of label 1 is left out.
    """
    directions = sorted({data.rows[index].direction or "" for index in test} - {""})
    found = (_direction(data, scores, test, direction) for direction in directions)
    return [one for one in found if one is not None]


def _direction(
    data: LabelledRows, scores: Floats, test: Sequence[int], direction: str
) -> dict[str, Any] | None:
    zeros = [
        index
        for index in test
        if data.rows[index].direction == direction and data.rows[index].label == 0
    ]
    kinds = {data.rows[index].kind for index in zeros}

    def ones(rows: Sequence[int]) -> list[int]:
        return [
            index
            for index in rows
            if data.rows[index].label == 1 and data.rows[index].kind in kinds
        ]

    validation, caught = ones(list(data.labelled.validation)), ones(test)
    if not zeros or not validation or not caught:
        return None
    threshold = threshold_at_tpr(scores[validation], CAUGHT)
    by_group: dict[str, list[bool]] = {}
    for index, group in zip(zeros, data.groups(zeros), strict=True):
        by_group.setdefault(group, []).append(bool(scores[index] >= threshold))
    shares = np.array([[np.mean(flags)] for flags in by_group.values()])
    low, high = t_intervals(shares)
    several = len(by_group) > 1
    return {
        "direction": direction,
        "num_rows": len(zeros),
        "num_groups": len(by_group),
        "flagged": float(shares.mean()),
        "low": max(0.0, float(low[0])) if several else None,
        "high": min(1.0, float(high[0])) if several else None,
        "caught": rate_above(scores[caught], threshold),
        "threshold": threshold,
    }
