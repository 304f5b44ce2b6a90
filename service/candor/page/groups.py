"""Scored rows as the pages' script shows them: a group per row, and the cards of the probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from candor.probes.card import Card

Row = Mapping[str, Any]

KEPT = ("key", "messages", "prompt", "tools", "templated")


def groups_of(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The groups of rows as `candor score` writes them; rows without scores are left out."""
    return [group_of_row(row) for row in rows if "scores" in row]


def group_of_row(row: Row) -> dict[str, Any]:
    """One scored row. A response with an error in place of scores is no candidate."""
    group = {name: row[name] for name in KEPT if row.get(name) is not None}
    meta = row.get("meta")
    if isinstance(meta, Mapping) and isinstance(meta.get("step"), int):
        group["step"] = meta["step"]
    scored = list(zip(row["scores"], row["responses"], strict=True))
    return {
        **group,
        "candidates": [
            _candidate(place, score, response)
            for place, (score, response) in enumerate(scored)
            if "error" not in score
        ],
        "failed": [
            {"place": place, "message": str(score["error"].get("message", ""))}
            for place, (score, _) in enumerate(scored)
            if "error" in score
        ],
        "responses": [text_of(response) for _, response in scored],
    }


def _candidate(place: int, score: Row, response: Any) -> dict[str, Any]:
    verdict = response.get("verdict") if isinstance(response, Mapping) else None
    return {
        **score,
        "place": place,
        "text": text_of(response),
        "notes": [] if verdict is None else [f"judged: {verdict}"],
    }


def text_of(response: Any) -> str:
    """The text of a stored response: its own, or that of an assistant's message."""
    if isinstance(response, str):
        return response
    for name in ("text", "content"):
        if isinstance(found := response.get(name), str):
            return found
    return ""


def probe_of(card: Card, **served: Any) -> dict[str, Any]:
    """What the pages need of a card: the scale of its heat maps, kappa, and facts.

    Args:
        served: what a server adds: `method`, `lambda`, `warnings`.
    """
    test = card.metrics.get("test")
    return {
        "trait": card.trait,
        "layer": card.layer,
        "pooling": card.pooling,
        "bound": card.bound.model_dump(exclude_none=True),
        "calibration": card.calibration.model_dump(exclude={"source"}),
        "within_prompt_auroc": test.get("within_prompt_auroc") if isinstance(test, dict) else None,
        "version": card.version,
        **served,
    }


def model_of(row: Row) -> dict[str, Any]:
    """The reward model of a scored row, as the script reads it."""
    model = row.get("reward_model", {})
    return {"combine": {"kind": "sum", "spread_weight": 1.0}, "methods": {}} | dict(model)


def num_candidates(groups: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(group["candidates"]) for group in groups)
