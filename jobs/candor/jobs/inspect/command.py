"""`candor inspect`: scored rows as one HTML page, to look at and to send.

The page is the inspector of a server, with the rows in it: every prompt's candidates under a lambda
that the reader moves, and histograms whose bars give their rows. It needs no server and fetches
nothing. It holds the texts of the rows, so it may be shared with the same people.
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

from candor.flags import UsageError
from candor.jobs.pages.scored import workbench, write_scored_page
from candor.jobs.rollouts.scored import one_model, read_group, scored_rows
from candor.jobs.rollouts.served_cards import known_cards
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import read_rows
from candor.jobs.running.rows import check_paths


@command
def inspect(scored: Path, *, out: Path | None = None) -> Exit:
    """Write scored rows as one HTML page: the candidates of each prompt, ranked under any lambda.

    Example: candor inspect scored.jsonl

    Parameters
    ----------
    scored
        JSONL written by candor score. With the manifest beside it, the page also has kappa, and the
        cards of the probes.
    out
        The HTML page to write; by default SCORED with .html at its end.
    """
    target = out or scored.with_name(scored.name + ".html")
    check_paths(scored, target)
    rows = scored_rows(read_rows(scored))
    if not rows:
        raise UsageError(f"{scored}: no row has scores; score it with `candor score`")
    model = one_model(scored, rows)
    groups = [read_group(scored, row) for row in rows]
    if not any(group is not None for group in groups):
        raise UsageError(f"{scored}: no response of any row could be scored")
    names = list(dict.fromkeys(name for group in groups if group for name in group.scores))
    cards, reason = known_cards(scored, names)
    if reason is not None:
        print(f"candor: the page has no kappa: {reason}", file=sys.stderr)
    found = workbench(rows, cards)
    made = {
        "rows": str(scored),
        "reward model": str(model.get("id", "not said")),
        "weights (sha256)": str(model["revision"]),
        "formula": str(model.get("formula", "not said")),
    }
    write_scored_page(target, scored.name, found, made)
    if found.num_left_out:
        print(
            f"candor: the page holds the first {len(found.groups)} rows; {found.num_left_out} more "
            "are left out, because the page would be slow",
            file=sys.stderr,
        )
    summary = {"page": str(target), "prompts": len(found.groups), "flips": found.num_flips}
    print(orjson.dumps(summary).decode())
    return Exit.DONE
