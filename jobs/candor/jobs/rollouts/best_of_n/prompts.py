"""What a comparison of arms is about: the aim, and the stored rows as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from candor.flags import UsageError
from candor.jobs.compare.selection import Array
from candor.jobs.compare.words import WordList
from candor.jobs.rollouts.best_of_n.arms import NullSources
from candor.jobs.rollouts.response_flags import ResponseFlag
from candor.jobs.rollouts.scored import ScoredGroup, candidates, field_of
from candor.jobs.running.files import Row

EVERYWHERE = "all prompts"


@dataclass(frozen=True)
class Aim:
    """What should fall, where, and what should stay.

    Attributes:
        target: of each response, what should become rarer.
        where: (field of the rows, value): the prompts that the target is about; None: all.
        keep: of each response, what should stay as frequent; None: nothing but R.
        unit: fields of the rows; prompts that agree in all of them are one unit. Empty: each prompt
            is a unit.
    """

    target: ResponseFlag
    where: tuple[str, str] | None
    keep: ResponseFlag | None
    unit: tuple[str, ...]


@dataclass(frozen=True)
class Prompts:
    """The rows of a comparison as arrays, P prompts with M candidates each.

    Attributes:
        target, keep: 1.0 where the response has it, [M] for each prompt; `keep` None without one.
        conditions: of each prompt.
        aimed: [P] bool: whether the target is about the prompt.
        units: of each prompt.
    """

    groups: Sequence[ScoredGroup]
    target: Sequence[Array]
    keep: Sequence[Array] | None
    conditions: Sequence[str]
    aimed: np.ndarray[Any, np.dtype[np.bool_]]
    units: Sequence[str]
    sources: NullSources


def prompts_of(
    scored: Path,
    kept: Sequence[tuple[Row, ScoredGroup]],
    aim: Aim,
    *,
    null_probes: Mapping[str, Sequence[str]],
    words: WordList | None,
    seed: int,
) -> Prompts:
    """The rows as the comparison reads them.

    Raises:
        UsageError: a row lacks a field or a response lacks what a flag reads; no row is in the
            condition; or every or no response there has the target.
    """
    rows = [row for row, _ in kept]
    field = aim.where[0] if aim.where else None
    conditions = [
        EVERYWHERE if field is None else field_of(scored, row, field, "--where") for row in rows
    ]
    aimed = np.array([aim.where is None or one == aim.where[1] for one in conditions])
    if not aimed.any():
        known = ", ".join(sorted(set(conditions)))
        raise UsageError(f"--where {field}={aim.where and aim.where[1]}: the rows have {known}")
    target = [_flags(scored, row, aim.target) for row in rows]
    there = np.concatenate([one for one, use in zip(target, aimed, strict=True) if use])
    if there.min() == there.max():
        raise UsageError(
            f"--target {aim.target.spec}: {'every' if there.max() else 'no'} response "
            f"{'there ' if aim.where else ''}has it, so no choice can change it"
        )
    return Prompts(
        groups=[group for _, group in kept],
        target=target,
        keep=None if aim.keep is None else [_flags(scored, row, aim.keep) for row in rows],
        conditions=conditions,
        aimed=aimed,
        units=[
            "/".join(field_of(scored, row, name, "--unit") for name in aim.unit) or row["key"]
            for row in rows
        ],
        sources=NullSources(
            [[_text(row["responses"][place]) for place in candidates(row)] for row in rows],
            null_probes,
            words,
            seed,
        ),
    )


def _flags(scored: Path, row: Row, flag: ResponseFlag) -> Array:
    found = []
    for place in candidates(row):
        try:
            found.append(float(flag(row["responses"][place], row["scores"][place])))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = str(error) if type(error) is ValueError else repr(error)
            raise UsageError(f"{scored}: key {row['key']!r}: response {place} {reason}") from None
    return np.array(found)


def _text(response: Mapping[str, Any]) -> str:
    text = response.get("text")
    return text if isinstance(text, str) else ""
