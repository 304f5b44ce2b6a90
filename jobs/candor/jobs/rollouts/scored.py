"""Scored rows as arrays: R, S and bound(S) of a prompt's candidates, and rewards at any strength.

A candidate is a response that was scored; a response with an error in place of its scores is not a
candidate. The server's own `Combination` computes the penalty here too, so a reward offline equals
the served reward to the bit, and a row where it does not is refused.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candor.flags import UsageError
from candor.jobs.running.files import Row
from candor.probes import jsonl
from candor.probes.combine import Combination
from candor.probes.tilt import Threshold, closed_form_lambda

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredGroup:
    """The M scored candidates of one prompt."""

    base_reward: Array  # [M]
    scores: Mapping[str, Array]  # S by probe, [M] each
    bounded: Mapping[str, Array]  # what lambda multiplies, by probe, [M] each
    lambdas: Mapping[str, Array]  # by probe, [M] each; 0 where the term is not in the reward
    combine: Combination = field(default_factory=Combination)

    @cached_property
    def penalty(self) -> Array:
        """[M]. A probe with lambda 0 has no term, as on the server (`candor.scoring.compose`)."""
        columns = [
            (self.lambdas[name].tolist(), bounded.tolist())
            for name, bounded in self.bounded.items()
        ]
        return np.array(
            [
                self.combine([s[i] * b[i] for s, b in columns if s[i] > 0])
                for i in range(len(self.base_reward))
            ]
        )

    @cached_property
    def reward(self) -> Array:
        """[M]: R minus the penalty."""
        return self.base_reward - self.penalty

    def with_lambda(self, name: str, strength: float) -> ScoredGroup:
        """The same candidates with `strength` as this probe's lambda."""
        return replace(
            self, lambdas={**self.lambdas, name: np.full_like(self.base_reward, strength)}
        )

    def with_closed_form(self, name: str, beta: float, threshold: float) -> ScoredGroup:
        """The same candidates with lambda*(x) * [S > threshold] as this probe's penalty.

        lambda*(x) is computed from all M candidates (`candor.probes.tilt`), whichever are drawn.
        """
        flag = Threshold(threshold)
        flags = [flag(s) for s in self.scores[name].tolist()]
        strength = closed_form_lambda(self.base_reward.tolist(), flags, beta)
        flagged = replace(self, bounded={**self.bounded, name: np.array(flags)})
        return flagged.with_lambda(name, strength)


def number_at(row: Row, place: int, *names: str) -> float:
    """The number under `names` in the scores of one response.

    Raises:
        ValueError: it is missing, not a number, or not finite; the message names the field.
    """
    value: Any = row["scores"][place]
    field = ".".join((f"scores[{place}]", *names))
    for name in names:
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"{field} is missing")
        value = value[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{field} is {value!r}, not a finite number")
    return float(value)


def candidates(row: Row) -> list[int]:
    """Indexes of a scored row's responses that have scores."""
    return [index for index, score in enumerate(row["scores"]) if "error" not in score]


def context_of(row: Row) -> str:
    """The row's context as one string, equal exactly where two rows share their context.

    Raises:
        KeyError: the row has neither `messages` nor `prompt`.
    """
    context = row["messages"] if row.get("prompt") is None else row["prompt"]
    if tools := row.get("tools"):
        context = [context, tools]
    return jsonl.line_of(context, sort_keys=True).decode()


def field_of(path: Path, row: Row, field: str, option: str) -> str:
    """The text or number of a field of the row, such as meta.source, as a text.

    Args:
        option: the option that named the field, for messages.

    Raises:
        UsageError: the row has no text or number there.
    """
    value: Any = row
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str | int | float) or value != value:
        raise UsageError(
            f"{path}: key {row['key']!r} has no text or number under {field!r} ({option})"
        )
    return str(value)


def methods_of(row: Row) -> dict[str, str]:
    """How the server used each probe, by name (docs/api.md#methods). A probe that is not named, as
    in rows of an earlier Candor, was subtracted."""
    return dict(row.get("reward_model", {}).get("methods", {}))


def probes_of(row: Row) -> str | None:
    """Hash of the probes that scored the row; None in rows of an earlier Candor."""
    found: str | None = row.get("reward_model", {}).get("probes_sha256")
    return found


def group_of(row: Row) -> ScoredGroup:
    """The numbers of a scored row's candidates.

    Raises:
        ValueError: a number is missing or not finite; the message names its field.
    """
    places = candidates(row)

    def column(*names: str) -> Array:
        return np.array([number_at(row, place, *names) for place in places], dtype=np.float64)

    def column_of(name: str, field: str) -> Array:
        return column("probes", name, field)

    names = list(row["scores"][places[0]]["probes"])
    methods = methods_of(row)
    in_reward = {name: methods.get(name) != "advantage" for name in names}
    return ScoredGroup(
        column("base_reward"),
        {name: column_of(name, "score") for name in names},
        {name: column_of(name, "bounded") for name in names},
        {name: column_of(name, "lambda") * in_reward[name] for name in names},
        Combination(**row.get("reward_model", {}).get("combine", {})),
    )


def within_reach(path: Path, rows: Sequence[Row], ns: Sequence[int]) -> list[int]:
    """The values of N for best-of-N, none above what the rows have; says on stderr where one was
    lowered.

    The limit is the fewest responses of any row. Where failures leave no row with that many scored
    responses, it is the most that a row has.
    """
    lists = [
        [one for one in row["scores"] if isinstance(one, dict)]
        for row in rows
        if isinstance(row["scores"], list)  # what is malformed is refused afterwards, by name
    ]
    fewest = min(map(len, lists), default=0)
    most = max((sum("error" not in one for one in scores) for scores in lists), default=0)
    limit = min(fewest, most)
    if limit < 1 or max(ns) <= limit:
        return list(ns)
    reason = f"no row has more than {most} scored responses"
    if fewest <= most:
        few = sum(len(scores) == fewest for scores in lists)
        reason = f"{few} of {len(lists)} rows have {fewest} responses"
    print(f"candor: {path}: N = {max(ns)} is lowered to {limit}: {reason}", file=sys.stderr)
    return sorted({min(n, limit) for n in ns})


def scored_groups(path: Path, rows: Sequence[Row], largest: int) -> list[tuple[Row, ScoredGroup]]:
    """The rows with at least `largest` candidates, and their numbers.

    A row with fewer candidates, because some responses could not be scored, is left out at every N,
    so that every N is about the same prompts.

    Args:
        largest: as `within_reach` limits it.

    Raises:
        UsageError: there are no rows, a row has other probes than the first row, a reward is not
            what its parts make, or no row has enough candidates.
    """
    if not rows:
        raise UsageError(
            f"{path}: no row has scores; score the rows first: candor score --rollouts {path}"
        )
    read = [(row, read_group(path, row)) for row in rows]
    groups = [
        (row, group)
        for row, group in read
        if group is not None and len(group.base_reward) >= largest
    ]
    if not groups:
        raise UsageError(f"{path}: no response of any row is scored (see the 'error' of each)")
    for row, group in groups:
        if list(group.scores) != list(groups[0][1].scores):
            raise UsageError(f"{path}: key {row['key']!r} has other probes than the first row")
        if methods_of(row) != methods_of(groups[0][0]):
            raise UsageError(f"{path}: key {row['key']!r} was scored by other methods (--method)")
        if probes_of(row) != probes_of(groups[0][0]):
            raise UsageError(
                f"{path}: key {row['key']!r} was scored by other probes than the first row: a "
                "probe was replaced in between; score the file again"
            )
    return groups


def say_doubts(path: Path, groups: Sequence[tuple[str, Array]]) -> None:
    """Say on stderr where the numbers of a report are defined but say nothing.

    Args:
        groups: the prompt and R of the candidates of each row.
    """
    if len({prompt for prompt, _ in groups}) == 1:
        print(
            f"candor: {path}: there is one prompt only; the intervals are over prompts, so there "
            "are none",
            file=sys.stderr,
        )
    shared = [rewards for _, rewards in groups if len(rewards) > 1]
    if shared and all(rewards.min() == rewards.max() for rewards in shared):
        print(
            f"candor: {path}: R does not vary among the responses to any of {len(groups)} prompts; "
            "a choice by R is a random pick",
            file=sys.stderr,
        )


def read_group(path: Path, row: Row) -> ScoredGroup | None:
    """`group_of` a row of the file `path`; None when no response of the row could be scored.

    Raises:
        UsageError: the row is not as `candor score` writes it, or its parts do not make its
            rewards.
    """
    try:
        for name in ("scores", "responses"):
            if not isinstance(row.get(name), list):
                raise ValueError(f"'{name}' is not a list")
            for index, entry in enumerate(row[name]):
                if not isinstance(entry, dict):
                    raise ValueError(f"{name}[{index}] is not an object")
        if len(row["scores"]) != len(row["responses"]):
            raise ValueError(f"{len(row['scores'])} scores of {len(row['responses'])} responses")
        group = group_of(row) if candidates(row) else None
        stored = [number_at(row, index, "reward") for index in candidates(row)]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        reason = str(error) if type(error) is ValueError else repr(error)
        raise UsageError(
            f"{path}: key {row['key']!r}: {reason}; score the row again with `candor score`"
        ) from None
    if group is not None and group.reward.tolist() != stored:
        raise UsageError(
            f"{path}: key {row['key']!r}: a reward is not what its own parts make; the file was "
            "changed, or written by a Candor with another formula: score the rows again"
        )
    return group


def scored_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows that have scores; rows that failed are left out."""
    return [row for row in rows if "scores" in row and "error" not in row]


def one_model(path: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """`reward_model` of the rows: id, revision, formula, combine and penalties of the only RM.

    Raises:
        UsageError: a row does not name its RM, or the rows were scored by several weights.
    """
    found: dict[str, Any] | None = None
    for row in rows:
        model = row.get("reward_model")
        if not isinstance(model, dict) or not isinstance(model.get("revision"), str):
            raise UsageError(
                f"{path}: key {row['key']!r} does not say which reward model scored it; "
                "score it with `candor score`"
            )
        if found is not None and model["revision"] != found["revision"]:
            raise UsageError(
                f"{path}: key {row['key']!r} was scored by other weights "
                f"({model['revision'][:12]}) than earlier rows ({found['revision'][:12]})"
            )
        if found is not None and methods_of(row) != found.get("methods", {}):
            raise UsageError(
                f"{path}: key {row['key']!r} was scored by another method than earlier rows "
                "(--method of the server)"
            )
        if found is not None and probes_of(row) != found.get("probes_sha256"):
            raise UsageError(
                f"{path}: key {row['key']!r} was scored by other probes than earlier rows: a probe "
                "was replaced in between; score the file again"
            )
        found = model
    if found is None:
        raise UsageError(f"{path}: no row has scores")
    return found
