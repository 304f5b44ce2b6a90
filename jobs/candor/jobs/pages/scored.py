"""The page of a scored file: the inspector, with the rows in it in place of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candor.jobs.running.files import Row, replacing
from candor.page.groups import groups_of, model_of, num_candidates, probe_of
from candor.page.render import render
from candor.probes.card import Card

TEMPLATES = Path(__file__).parent / "templates"

MAX_CANDIDATES = 20_000
"""Candidates in one page. A page of more is slow to open."""

MAX_TOKENS = 200_000
"""Tokens with logits in one page, for the same reason."""
TOKENS_LEFT_OUT = (
    f"The page has the token logits of the first rows only, {MAX_TOKENS:,} tokens in all: more "
    "would make it slow. Write a page of fewer rows to see these."
)


@dataclass(frozen=True)
class Workbench:
    """What the inspector shows of scored rows.

    Attributes:
        groups, model, probes: the page's data.
        num_left_out: rows that did not fit.
        num_flips: prompts whose choice by the reward as scored is not that by R.
    """

    groups: Sequence[Mapping[str, Any]]
    model: Mapping[str, Any]
    probes: Mapping[str, Any]
    num_left_out: int
    num_flips: int

    @property
    def data(self) -> dict[str, Any]:
        return {"groups": self.groups, "model": self.model, "probes": self.probes}


def workbench(rows: Sequence[Row], cards: Mapping[str, Card]) -> Workbench:
    """The rows as the inspector shows them.

    Args:
        rows: at least one, each with scores.
        cards: of the probes whose cards are known, by name. Without its card, a probe has no kappa
            and no scale.
    """
    kept: list[Row] = []
    total = 0
    for row in rows:
        total += len(row["scores"])
        if kept and total > MAX_CANDIDATES:
            break
        kept.append(row)
    groups = groups_of(kept)
    _leave_tokens_out(groups)
    methods = model_of(rows[0])["methods"]
    probes = {
        name: probe_of(card, name=name, method=methods.get(name, "subtract"))
        for name, card in cards.items()
    }
    flips = [_chosen(group, "base_reward") != _chosen(group, "reward") for group in groups]
    return Workbench(groups, model_of(rows[0]), probes, len(rows) - len(kept), sum(flips))


def _leave_tokens_out(groups: Sequence[Mapping[str, Any]]) -> None:
    """Takes the token logits out of the candidates for whose tokens the page has no room, and says
    so in their place."""
    total = 0
    for group in groups:
        for one in group["candidates"]:
            total += len(one.get("tokens", ()))
            if total > MAX_TOKENS and "tokens" in one:
                del one["tokens"]
                one["notokens"] = TOKENS_LEFT_OUT


def _chosen(group: Mapping[str, Any], field: str) -> int:
    """Place of the candidate that is the first of the largest; -1 where there is none."""
    values = [(one[field], -one["place"]) for one in group["candidates"]]
    return -max(values)[1] if values else -1


def write_scored_page(out: Path, title: str, found: Workbench, made: Mapping[str, str]) -> None:
    """Write the page of a scored file.

    Args:
        made: rows of the table at its end.
    """
    html = render(
        TEMPLATES / "scored.html.j2",
        data=found.data,
        page_title=title,
        num_prompts=len(found.groups),
        num_candidates=num_candidates(found.groups),
        num_flips=found.num_flips,
        num_left_out=found.num_left_out,
        provenance=made,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        file.write(html.encode("utf-8", "replace"))
