"""A reply as an HTML table, as notebooks show it: each item's responses, the best first.

The page around it decides the colours, so it is legible in light and in dark. Texts are escaped: a
response is nobody's markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

MAX_ITEMS = 20
"""Items that are shown; the others are counted."""
MAX_TEXT = 300
"""Characters of a response that are shown."""

NUMBERS = (("reward", "reward"), ("R", "base_reward"), ("penalty", "penalty"))
"""Columns of every reply: heading and field."""


def as_html(rows: Sequence[Mapping[str, Any]], formula: str) -> str:
    """The table.

    Args:
        rows: as `candor.client.notebook.table.table_rows` makes them.
        formula: the reward's, for the caption.
    """
    by_item: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_item.setdefault(row["item"], []).append(row)
    shown = list(by_item.items())[:MAX_ITEMS]
    probes = [name.removeprefix("score/") for name in rows[0] if name.startswith("score/")]
    parts = [f"<table><caption>reward = {escape(formula)}</caption>", *_head(probes)]
    for number, members in shown:
        if len(by_item) > 1:
            width = 5 + len(NUMBERS) + len(probes)
            parts.append(f'<tr><th colspan="{width}" scope="rowgroup">item {number}</th></tr>')
        parts += _body(sorted(members, key=lambda row: int(row["rank"])), probes)
    parts.append("</table>")
    if len(by_item) > len(shown):
        parts.append(f"<p>and {len(by_item) - len(shown)} more items</p>")
    return "".join(parts)


def _head(probes: Sequence[str]) -> Iterator[str]:
    yield "<thead><tr>"
    names = ["rank", "rank by R", "response", *(name for name, _ in NUMBERS)]
    for name in [*names, *(f"S {name}" for name in probes)]:
        yield f'<th scope="col">{escape(name)}</th>'
    yield "</tr></thead>"


def _body(rows: Sequence[Mapping[str, Any]], probes: Sequence[str]) -> Iterator[str]:
    """A row each; a rank that the penalty changed has an arrow."""
    for row in rows:
        change = row["base_rank"] - row["rank"]
        arrow = f" {'▲' if change > 0 else '▼'}{abs(change)}" if change else ""
        text = str(row.get("text", f"response {row['response']}"))
        short = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
        yield f"<tr><td>{row['rank']}{arrow}</td><td>{row['base_rank']}</td>"
        yield f'<td style="text-align:left;white-space:pre-wrap">{escape(short)}</td>'
        for field in [field for _, field in NUMBERS] + [f"score/{name}" for name in probes]:
            yield f"<td>{row[field]:.4g}</td>"
        yield "</tr>"
