"""Splits rows into train, validation and test: whole groups, every kind in every part.

A split is either dealt here, from the group names and a seed, or given by the rows' own field
`split`. Both go through the same checks; every refusal names the kind or the rows.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from candor.probes.fitting.data import Row

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


class HeldOut:
    """Row indices of the test part, which can be read once: for the chosen probe.

    Choosing on the test part by mistake would read it twice, and the second read raises.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        self._indices = tuple(indices)
        self._opened = False

    def __len__(self) -> int:
        return len(self._indices)

    def open(self) -> tuple[int, ...]:
        """The indices.

        Raises:
            RuntimeError: the test part was opened before.
        """
        if self._opened:
            raise RuntimeError(
                "the test part was opened before: a probe chosen by its numbers cannot be measured "
                "by them"
            )
        self._opened = True
        return self._indices


@dataclass(frozen=True)
class Split:
    """Row indices of the three parts, each in row order."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: HeldOut


def split_rows(
    rows: Sequence[Row],
    seed: int,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    *,
    places: Sequence[str] | None = None,
) -> Split:
    """The split given by the rows, if every row has a `split`; else groups dealt by kind.

    Args:
        seed, fractions: as `deal_groups`.
        places: each row's name in messages, for example file:line.

    Raises:
        ValueError: some rows have a `split` and some have none; a group is in two parts; all rows
            have one label; a kind has fewer than three groups; or a part has no row of some kind,
            or lacks a label that this kind has.
    """
    named = places or [f"row {index}" for index in range(len(rows))]
    labels = {row.label for row in rows}
    if labels != {0, 1}:
        raise ValueError(
            f"every row has label {labels.pop()} ({len(rows)} rows, the first at {named[0]}): a "
            "probe is fitted on both labels"
            if labels
            else "no rows to split"
        )
    given = [row.split is not None for row in rows]
    if any(given) and not all(given):
        raise ValueError(
            f"{named[given.index(False)]}: split: missing, while {named[given.index(True)]} has "
            "one: give it on every row or on none"
        )
    part_of = _given_parts(rows, named) if all(given) else deal_groups(rows, seed, fractions)
    for kind in sorted({row.kind for row in rows}):
        _check_kind(kind, rows, part_of)
    train, validation, test = (
        tuple(index for index, row in enumerate(rows) if part_of[row.group] == part)
        for part in PARTS
    )
    return Split(train, validation, HeldOut(test))


def deal_groups(
    rows: Sequence[Row], seed: int, fractions: tuple[float, float, float]
) -> dict[str, Part]:
    """Group -> part, such that the groups of each kind come near `fractions`.

    The result depends on groups, their kinds and the seed, not on the order of the rows. A group
    with rows of several kinds goes to the part in which one of its kinds lacks the largest share.

    Raises:
        ValueError: the fractions are not three positive shares of 1, or a kind has fewer than three
            groups.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must be positive and add up to 1, got {fractions}")
    kinds_of: dict[str, set[str]] = defaultdict(set)
    groups_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        kinds_of[row.group].add(row.kind)
        groups_of[row.kind].add(row.group)
    left = {kind: _quotas(kind, len(groups_of[kind]), fractions) for kind in sorted(groups_of)}
    quotas = {kind: dict(parts) for kind, parts in left.items()}
    order = sorted(kinds_of)
    random.Random(seed).shuffle(order)
    # A group of many kinds is the hardest to place, so it goes first. Sorting keeps the shuffle.
    order.sort(key=lambda group: -len(kinds_of[group]))
    part_of: dict[str, Part] = {}
    for group in order:
        kinds = sorted(kinds_of[group])

        def need(part: Part, kinds: Iterable[str] = kinds) -> float:
            return max(left[kind][part] / quotas[kind][part] for kind in kinds)

        part_of[group] = max(PARTS, key=need)
        for kind in kinds:
            left[kind][part_of[group]] -= 1
    return part_of


def _quotas(kind: str, groups: int, fractions: tuple[float, float, float]) -> dict[Part, int]:
    """How many of a kind's groups each part gets; at least one."""
    if groups < 3:
        raise ValueError(
            f"{_name(kind)} has {groups} group{'s' * (groups != 1)}: train, validation and test "
            "each need at least one, so a kind needs at least three"
        )
    first = min(max(1, round(fractions[0] * groups)), groups - 2)
    second = min(max(first + 1, round(sum(fractions[:2]) * groups)), groups - 1)
    return {"train": first, "validation": second - first, "test": groups - second}


def _given_parts(rows: Sequence[Row], named: Sequence[str]) -> dict[str, Part]:
    """Group -> part, from the rows' field `split`."""
    part_of: dict[str, Part] = {}
    first: dict[str, str] = {}
    for row, name in zip(rows, named, strict=True):
        assert row.split is not None
        if part_of.setdefault(row.group, row.split) != row.split:
            raise ValueError(
                f"{name}: group {row.group!r} is in {row.split!r} here and in "
                f"{part_of[row.group]!r} at {first[row.group]}: a group belongs to one part"
            )
        first.setdefault(row.group, name)
    return part_of


def _check_kind(kind: str, rows: Sequence[Row], part_of: Mapping[str, Part]) -> None:
    """Raises ValueError unless every part has rows of this kind with all of the kind's labels."""
    found: dict[Part, set[int]] = {part: set() for part in PARTS}
    for row in rows:
        if row.kind == kind:
            found[part_of[row.group]].add(row.label)
    everywhere = set().union(*found.values())
    for part, labels in found.items():
        if not labels:
            raise ValueError(
                f"{_name(kind)} has no row in the {part} part: give it more groups, or another seed"
            )
        if missing := everywhere - labels:
            raise ValueError(
                f"{_name(kind)} has no row with label {missing.pop()} in the {part} part: give it "
                "more groups, with both labels in each if possible, or another seed"
            )


def _name(kind: str) -> str:
    return f"kind {kind!r}" if kind else "the data (rows without a kind)"
