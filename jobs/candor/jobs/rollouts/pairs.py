"""`candor pairs`: preference pairs for DPO, the best and worst response by penalised reward.

    {"key", "messages", "responses", "scores"}  ->  {"key", "prompt", "chosen", "rejected", ...}

The form is TRL's conversational preference format: `prompt` is the messages, `chosen` and
`rejected` are one assistant message each. Beside them stand `margin`, the difference of the two
rewards, and for each side its reward, R and S; a trainer that reads columns by name ignores them.

Nothing is scored again: another strength is put into the stored parts, as in `candor bon`. A prompt
makes no pair when it has fewer than two candidates, when all its rewards are equal, or when the
margin is too small; such prompts are counted. A failed run leaves an old output file as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.formats.writers import preference_row
from candor.jobs.rollouts.scored import ScoredGroup, candidates, read_group, scored_rows
from candor.jobs.rollouts.strengths import (
    ClosedFormOption,
    KappaOption,
    LambdaOption,
    parse_penalties,
)
from candor.jobs.rollouts.variants import Variant, variants_of
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import Row, read_input, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.running.rows import check_paths


@Parameter(name="*")
@dataclass(frozen=True)
class PairsOptions:
    """The options of `candor pairs`."""

    scored: Path
    """JSONL written by `candor score`."""
    _: KW_ONLY
    out: Path
    """JSONL to write, in TRL's conversational preference format."""
    penalty: LambdaOption = None
    kappa: KappaOption = None
    closed_form: ClosedFormOption = None
    min_margin: float = 0.0
    """Least difference of the two rewards, in reward units; equal rewards never make a pair."""


@command
def pairs(options: PairsOptions) -> Exit:
    """Write the best and the worst response to each prompt as {prompt, chosen, rejected}."""
    started = now()
    check_paths(options.scored, options.out)
    if not (math.isfinite(options.min_margin) and options.min_margin >= 0):
        raise UsageError(f"--min-margin {options.min_margin}: must be a number, at least 0")
    # Refuses a sweep and two strengths for one probe, which `variants_of` takes.
    parse_penalties(options.penalty, options.kappa, options.closed_form)
    rows = read_input(options.scored)
    groups = conversations(options.scored, rows)
    variants = variants_of(
        options.scored,
        *groups[0],
        lambda_sweep=options.penalty,
        kappa_sweep=options.kappa,
        closed_form=options.closed_form,
    )
    found, dropped = make_pairs(groups, variants, options.min_margin)
    counts = {
        "rows": len(rows),
        "done": len(found),
        "failed": len(rows) - len(groups),
        **{f"dropped_{reason}": dropped[reason] for reason in ("short", "tie", "margin")},
    }
    if not found:
        raise UsageError(
            f"{options.scored}: no pair: of {len(groups)} scored prompts, {dropped['short']} have "
            f"fewer than 2 scored responses, {dropped['tie']} have equal rewards only, and "
            f"{dropped['margin']} have a margin below --min-margin {options.min_margin:g}"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(options.out, found)
    write_manifest(
        options.out,
        command="pairs",
        inputs={"scored": options.scored},
        settings={
            "min_margin": options.min_margin,
            "variants": [variant.as_json() for variant in variants],
        },
        counts=counts,
        started=started,
    )
    print(orjson.dumps({"out": str(options.out), **counts}).decode())
    return Exit.DONE


def conversations(scored: Path, rows: Sequence[Row]) -> list[tuple[Row, ScoredGroup]]:
    """The rows that have a scored response, with their numbers.

    Raises:
        UsageError: no row has one, or a row's context is not messages.
    """
    groups = [
        (row, group) for row in scored_rows(rows) if (group := read_group(scored, row)) is not None
    ]
    if not groups:
        raise UsageError(f"{scored}: none of {len(rows)} rows has a scored response")
    for row, _ in groups:
        if "messages" not in row:
            raise UsageError(
                f"{scored}: key {row['key']!r} has no messages; pairs are conversations"
            )
    return groups


def make_pairs(
    groups: Sequence[tuple[Row, ScoredGroup]], variants: Sequence[Variant], min_margin: float
) -> tuple[list[Row], Counter[str]]:
    """The pairs, and the number of prompts without a pair by reason.

    Args:
        variants: changes of strength, all of them applied.
    """
    found: list[Row] = []
    dropped: Counter[str] = Counter()
    for row, group in groups:
        for variant in variants:
            group = variant.apply(group)
        margin = float(group.reward.max() - group.reward.min())
        if len(group.reward) < 2:
            dropped["short"] += 1
        elif margin == 0:
            dropped["tie"] += 1
        elif margin < min_margin:
            dropped["margin"] += 1
        else:
            found.append(_pair(row, group, margin))
    return found, dropped


def _pair(row: Row, group: ScoredGroup, margin: float) -> Row:
    best, worst = int(np.argmax(group.reward)), int(np.argmin(group.reward))
    places = candidates(row)

    def text(index: int) -> str:
        return str(row["responses"][places[index]]["text"])

    def numbers(index: int) -> dict[str, Any]:
        return {
            "reward": float(group.reward[index]),
            "base_reward": float(group.base_reward[index]),
            "scores": {name: float(scores[index]) for name, scores in group.scores.items()},
        }

    return preference_row(
        row["key"],
        row["messages"],
        text(best),
        text(worst),
        margin=margin,
        of_chosen=numbers(best),
        of_rejected=numbers(worst),
    )
