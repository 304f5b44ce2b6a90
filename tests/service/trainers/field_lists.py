"""What the contracts say of the fields of bodies, and the tables of docs/trainers/fields.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from candor.http.trainer_routes import ROUTES, TOKENIZE
from candor.trainers.contract import Contract
from candor.trainers.fields import Harmless, Refused

M = TypeVar("M", Harmless, Refused)


def marked(body: type[BaseModel], kind: type[M]) -> dict[str, M]:
    """The fields of a body that carry a mark of this kind, by name."""
    return {
        name: mark
        for name, field in body.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, kind)
    }


def honoured(body: type[BaseModel]) -> list[str]:
    """The fields of a body that its contract reads."""
    others = marked(body, Harmless) | marked(body, Refused)
    return [name for name in body.model_fields if name not in others]


def contracts() -> Iterator[tuple[str, Contract[Any]]]:
    """(one path, contract) of every contract, each once."""
    seen: list[Contract[Any]] = []
    for path, served in (ROUTES | TOKENIZE).items():
        for contract in served:
            if contract not in seen:
                seen.append(contract)
                yield path, contract


def paths_of(contract: Contract[Any]) -> list[str]:
    return [path for path, served in (ROUTES | TOKENIZE).items() if contract in served]


REWARDS = (
    "rewards",
    "scores",
    "reward",
    "data",
    "results",
    "probs",
    "score",
    "relevance_score",
    "embedding",
    "count",
)
"""Names under which answers hold rewards. The first that an object has is read."""


def rewards_in(answer: Any) -> list[float]:
    """The rewards in an answer of any route, in its order (on `/tokenize` the count)."""
    if isinstance(answer, int | float):
        return [answer]
    if isinstance(answer, list):
        return [number for part in answer for number in rewards_in(part)]
    name = next(name for name in REWARDS if name in answer)
    return rewards_in(answer[name])


def honoured_table() -> str:
    """The fields that each contract reads, and those that it accepts without effect, in
    Markdown."""
    rows = ["| route | client | honoured | without effect |", "| --- | --- | --- | --- |"]
    for _, contract in contracts():
        rows.append(
            f"| {names(paths_of(contract))} | {contract.client} | "
            f"{names(honoured(contract.body))} | {names(marked(contract.body, Harmless))} |"
        )
    return "\n".join(rows)


def refused_table() -> str:
    """The fields that are refused, in Markdown, with the values that are accepted all the same."""
    routes: dict[tuple[str, Refused], set[str]] = {}
    for _, contract in contracts():
        for name, mark in marked(contract.body, Refused).items():
            key = (name, Refused(mark.why, tuple(map(_json, mark.neutral))))
            routes.setdefault(key, set()).update(paths_of(contract))
    rows = ["| field | accepted | why, and what to do | routes |", "| --- | --- | --- | --- |"]
    for (name, mark), paths in sorted(routes.items(), key=lambda one: one[0][0]):
        rows.append(f"| `{name}` | {names(mark.neutral)} | {mark.why} | {names(sorted(paths))} |")
    return "\n".join(rows)


def names(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
