"""Rows of answers to grounded questions, with the exact judge's verdict on every response.

A row names its question under `meta`, and the question is built again from these fields:

    domain    id of the domain, or "sum"
    question  the question's number within its domain and seed, from 0
    seed      the seed that the questions were drawn with
    stance    what the prompt says about the answer, such as "wrong" (the user believes a wrong
              value); `candor.probes.kinds.grounded.questions` lists them
    wording   number of the way in which the stance is said

The prompt that these fields make must stand in the row's own messages. Otherwise the judge would
compare the answers with the facts of another question, and the row is refused.

    prompts = judged_prompts(path, rows)       # rows of `candor score`
    shares = verdict_shares(prompts, "reward", 16)     # [P, 4], columns VERDICTS
    agrees = shares[:, VERDICTS.index("user")]

Every share is the exact expectation over all subsets of n of the prompt's scored responses, ties
in equal parts (`candor.jobs.compare.selection`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from candor.flags import UsageError
from candor.jobs.compare.selection import Array, selection_weights
from candor.jobs.rollouts.scored import ScoredGroup, candidates, read_group
from candor.jobs.running.files import Row
from candor.probes.kinds.grounded.arithmetic import SUM, sum_at
from candor.probes.kinds.grounded.judge import Verdict, judge
from candor.probes.kinds.grounded.questions import (
    STANCES,
    Domain,
    Question,
    Stance,
    num_wordings,
    question_at,
    shipped_domains,
)

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""The columns of `verdict_shares`: truth, user, other, none."""

Rule = Literal["random", "base_reward", "reward"]
"""A random pick, the best by R, or the best by the penalised reward."""


@dataclass(frozen=True)
class JudgedPrompt:
    """One prompt, its M scored responses, and the verdict on each.

    Attributes:
        key: the row's key.
        question, stance, wording: what the prompt is made of.
        texts: the scored responses, M.
        verdicts: the verdict on each, M.
        group: their R, S, bound(S) and lambda; None for rows that were not scored.
    """

    key: str
    question: Question
    stance: Stance
    wording: int
    texts: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    group: ScoredGroup | None

    def indicator(self, verdict: Verdict) -> Array:
        """[M] float64: 1 where the response has this verdict."""
        return np.array([float(each == verdict) for each in self.verdicts])

    def rewards(self, rule: Rule) -> Array:
        """[M]: what `rule` chooses by. At random all are equal, so every response is as likely.

        Raises:
            ValueError: the rule needs scores, and the row has none.
        """
        if rule == "random":
            return np.zeros(len(self.texts))
        if self.group is None:
            raise ValueError(f"key {self.key!r} has no scores, so {rule} chooses nothing")
        return self.group.base_reward if rule == "base_reward" else self.group.reward


def judged_prompts(path: Path, rows: Sequence[Row]) -> list[JudgedPrompt]:
    """The rows that have responses, judged; a row that failed as a whole is left out.

    Of a scored row only the responses with scores are read. A row none of whose responses has
    scores is left out.

    Args:
        path: the rows' file, for messages.

    Raises:
        UsageError: a row does not name its question, names another than its messages hold, or is
            not as `candor generate` or `candor score` writes it.
    """
    found = []
    for row in rows:
        if "error" in row or "responses" not in row:
            continue
        try:
            prompt = _judged(path, row)
        except ValueError as error:
            raise UsageError(f"{path}: key {row['key']!r}: {error}") from None
        if prompt.texts:
            found.append(prompt)
    return found


def with_verdicts(path: Path, row: Row) -> Row:
    """The row with a `verdict` in each response that is a text, for a file that others read.

    Raises:
        UsageError: as `judged_prompts`.
    """
    try:
        question, stance, _ = asked(row)
        responses = [
            {**response, "verdict": judge(response["text"], question, stance)}
            if isinstance(response.get("text"), str)
            else response
            for response in _responses(row)
        ]
    except ValueError as error:
        raise UsageError(f"{path}: key {row['key']!r}: {error}") from None
    return {**row, "responses": responses}


def verdict_shares(
    prompts: Sequence[JudgedPrompt], rule: Rule, n: int, rewards: Sequence[Array] | None = None
) -> Array:
    """[P, 4]: probability that best-of-n by `rule` chooses a response of each verdict.

    Args:
        n: at most the number of responses of every prompt.
        rewards: [M] for each prompt, to choose by in place of the rule's own: a null arm, or
            another strength.

    Raises:
        ValueError: as `selection_weights` and `JudgedPrompt.rewards`.
    """
    chosen_by = [prompt.rewards(rule) for prompt in prompts] if rewards is None else rewards
    return np.array(
        [
            [weights @ prompt.indicator(verdict) for verdict in VERDICTS]
            for prompt, values in zip(prompts, chosen_by, strict=True)
            for weights in [selection_weights(values, n)]
        ]
    ).reshape(-1, len(VERDICTS))


def asked(row: Row) -> tuple[Question, Stance, int]:
    """The question of a row, its stance and the wording, from `meta`.

    Raises:
        ValueError: a field of `meta` is missing or unknown, or the row's messages are not this
            question's.
    """
    meta: Any = row.get("meta")
    if not isinstance(meta, dict):
        raise ValueError("'meta' is not an object, so the question is not known")
    stance: Any = meta.get("stance")
    if stance not in STANCES:
        raise ValueError(f"meta.stance is {stance!r}; it is one of {', '.join(STANCES)}")
    number, seed, wording = (_whole(meta, name) for name in ("question", "seed", "wording"))
    if not 0 <= wording < num_wordings(stance):
        raise ValueError(
            f"meta.wording is {wording}; stance {stance!r} has the wordings 0 to "
            f"{num_wordings(stance) - 1}"
        )
    question = _question(meta.get("domain"), number, seed)
    text = question.prompt(stance, wording)
    if text not in _said_by_user(row):
        raise ValueError(
            f"the messages do not hold the prompt that meta names ({text!r}); was the file made "
            "with other domains or by another version?"
        )
    return question, stance, wording


def _judged(path: Path, row: Row) -> JudgedPrompt:
    question, stance, wording = asked(row)
    if "scores" in row:
        group = read_group(path, row)
        texts = [row["responses"][place].get("text") for place in candidates(row)]
    else:
        group = None
        texts = [response.get("text") for response in _responses(row)]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a response has no 'text'")
    verdicts = tuple(judge(text, question, stance) for text in texts)
    return JudgedPrompt(row["key"], question, stance, wording, tuple(texts), verdicts, group)


def _responses(row: Row) -> list[Row]:
    found = row.get("responses")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("'responses' is not a list of objects")
    return found


def _question(domain: Any, number: int, seed: int) -> Question:
    if number < 0:
        raise ValueError(f"meta.question is {number}; questions are counted from 0")
    if domain == SUM.id:
        return sum_at(number, seed=seed)
    known = _domains()
    if domain not in known:
        raise ValueError(f"meta.domain is {domain!r}; it is one of {', '.join([*known, SUM.id])}")
    return question_at(known[domain], number, seed=seed)


@cache
def _domains() -> Mapping[str, Domain]:
    return {domain.id: domain for domain in shipped_domains()}


def _whole(meta: Mapping[str, Any], name: str) -> int:
    value = meta.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"meta.{name} is {value!r}, not a whole number")
    return value


def _said_by_user(row: Row) -> str:
    """The texts of the user's turns, or the whole prompt where the template is already applied."""
    if row.get("messages") is None:
        return str(row.get("prompt"))
    return "\n".join(
        str(turn.get("content")) for turn in row["messages"] if turn.get("role") == "user"
    )
