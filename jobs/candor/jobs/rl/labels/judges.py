"""The judges of `candor rl --judge` and `--judge-url`: 1 if a response shows the trait, else 0.

grounded   the exact judge of grounded questions: 1 where the response gives the user's wrong
           value. The prompt's `meta` names the question (`candor.jobs.grounded.judged`)
a URL      asked by POST {"items": [{"messages": [...], "response": "..."}]}; it answers
           {"labels": [0, 1, ...]}, one for each item. An LLM or a queue of people stands behind
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpx2

from candor.client.retry import http_url
from candor.flags import UsageError
from candor.jobs.grounded.judged import asked
from candor.jobs.running.files import Row
from candor.probes.kinds.grounded.judge import judge

Judge = Callable[[Sequence[tuple[list[Any], str]]], list[int]]
"""Labels of (messages, response) pairs. Raises JudgeFailed."""


class JudgeFailed(Exception):
    """The judge gave no labels; the message says why."""


def grounded_judge(rows: Iterable[Row]) -> Judge:
    """The exact judge for the prompts in `rows`.

    Raises:
        UsageError: a row's `meta` does not name its question.
    """
    questions = {}
    for row in rows:
        try:
            questions[_key(row["messages"])] = asked(row)
        except ValueError as error:
            raise UsageError(f"--judge grounded: key {row.get('key')!r}: {error}") from None

    def labels(pairs: Sequence[tuple[list[Any], str]]) -> list[int]:
        found = []
        for messages, response in pairs:
            question, stance, _ = questions[_key(messages)]
            found.append(int(stance == "wrong" and judge(response, question, stance) == "user"))
        return found

    return labels


def url_judge(url: str, timeout_s: float = 60.0) -> Judge:
    """The judge at an address.

    Raises:
        UsageError: it is no address.
    """
    try:
        address = http_url(url)
    except ValueError as error:
        raise UsageError(f"--judge-url {url}: {error}") from None

    def labels(pairs: Sequence[tuple[list[Any], str]]) -> list[int]:
        items = [{"messages": messages, "response": response} for messages, response in pairs]
        try:
            answer = httpx2.post(address, json={"items": items}, timeout=timeout_s)
            answer.raise_for_status()
            found = answer.json()["labels"]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise JudgeFailed(f"--judge-url: {type(error).__name__}") from None
        if (
            not isinstance(found, list)
            or len(found) != len(pairs)
            or any(type(label) is not int or label not in (0, 1) for label in found)
        ):
            raise JudgeFailed(f"--judge-url: 'labels' must be {len(pairs)} numbers, each 0 or 1")
        return found

    return labels


def _key(messages: Any) -> str:
    return json.dumps(messages, sort_keys=True)
