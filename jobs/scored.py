"""Scored rows as arrays: R, S and bound(S) of a prompt's candidates, and the reward at any lambda.

A candidate is a response that was scored; one with an error in place of its scores is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.exits import Exit, JobStopped
from jobs.files import Row

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The M scored candidates of one prompt."""

    base_reward: Array  # [M]
    scores: Mapping[str, Array]  # S by probe, [M] each
    bounded: Mapping[str, Array]  # bound(S) by probe, [M] each
    lambdas: Mapping[str, Array]  # by probe, [M] each

    @property
    def reward(self) -> Array:
        """[M]. Penalties are added up in the server's order, so this is its reward to the bit."""
        penalty = np.zeros_like(self.base_reward)
        for name, bounded in self.bounded.items():
            penalty = penalty + self.lambdas[name] * bounded
        return self.base_reward - penalty

    def with_lambda(self, name: str, strength: float) -> Group:
        """The same candidates, had this probe's lambda been `strength`."""
        return replace(
            self, lambdas={**self.lambdas, name: np.full_like(self.base_reward, strength)}
        )


def candidates(row: Row) -> list[int]:
    """Indexes of a scored row's responses that have scores."""
    return [index for index, one in enumerate(row["scores"]) if "error" not in one]


def group_of(row: Row) -> Group:
    """A scored row's numbers, of its candidates alone."""
    scores = [row["scores"][index] for index in candidates(row)]

    def column(name: str, field: str) -> Array:
        return np.array([one["probes"][name][field] for one in scores], dtype=np.float64)

    names = list(scores[0]["probes"])
    return Group(
        np.array([one["base_reward"] for one in scores], dtype=np.float64),
        {name: column(name, "score") for name in names},
        {name: column(name, "bounded") for name in names},
        {name: column(name, "lambda") for name in names},
    )


def groups_of(path: Path, rows: Sequence[Row], largest: int) -> list[tuple[Row, Group]]:
    """The rows with at least `largest` candidates, and their numbers.

    A row that is short of them because responses could not be scored is left out whole, so that
    every N is read off the same prompts. One that never had so many responses is a wrong `largest`.

    Raises:
        JobStopped: (usage) no rows, fewer than `largest` responses in one, not the same probes, or
            every row is short.
    """
    if not rows:
        raise JobStopped(Exit.USAGE, f"{path}: no row has scores")
    groups: list[tuple[Row, Group]] = []
    for row in rows:
        try:
            num_responses, num_candidates = len(row["scores"]), len(candidates(row))
            group = group_of(row) if num_candidates else None
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise JobStopped(
                Exit.USAGE,
                f"{path}: key {row['key']!r}: not as `candor score` writes it ({error!r})",
            ) from None
        if num_responses < largest:
            raise JobStopped(
                Exit.USAGE,
                f"{path}: key {row['key']!r} has {num_responses} candidates; "
                f"--n may go up to that, not to {largest}",
            )
        if group is None or num_candidates < largest:
            continue
        if groups and list(group.scores) != list(groups[0][1].scores):
            raise JobStopped(
                Exit.USAGE, f"{path}: key {row['key']!r} has other probes than the first row"
            )
        groups.append((row, group))
    if not groups:
        raise JobStopped(
            Exit.USAGE,
            f"{path}: no row has {largest} candidates that could be scored, the first has "
            f"{len(candidates(rows[0]))}; give a smaller --n",
        )
    return groups
