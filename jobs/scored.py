"""Scored rows as arrays: R, S and bound(S) of a prompt's candidates, and the reward at any
lambda."""

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


def group_of(row: Row) -> Group:
    """A scored row's numbers."""
    scores = row["scores"]

    def column(name: str, field: str) -> Array:
        return np.array([one["probes"][name][field] for one in scores], dtype=np.float64)

    names = list(scores[0]["probes"])
    return Group(
        np.array([one["base_reward"] for one in scores], dtype=np.float64),
        {name: column(name, "score") for name in names},
        {name: column(name, "bounded") for name in names},
        {name: column(name, "lambda") for name in names},
    )


def groups_of(path: Path, rows: Sequence[Row], largest: int) -> list[Group]:
    """All rows' numbers.

    Raises:
        JobStopped: (usage) no rows, fewer than `largest` candidates in one, or not the same probes.
    """
    if not rows:
        raise JobStopped(Exit.USAGE, f"{path}: no row has scores")
    groups: list[Group] = []
    for row in rows:
        try:
            group = group_of(row)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise JobStopped(
                Exit.USAGE,
                f"{path}: key {row['key']!r}: not as `candor score` writes it ({error!r})",
            ) from None
        if len(group.base_reward) < largest:
            raise JobStopped(
                Exit.USAGE,
                f"{path}: key {row['key']!r} has {len(group.base_reward)} candidates; "
                f"--n may go up to that, not to {largest}",
            )
        if groups and list(group.scores) != list(groups[0].scores):
            raise JobStopped(
                Exit.USAGE, f"{path}: key {row['key']!r} has other probes than the first row"
            )
        groups.append(group)
    return groups
