"""`candor pairs`: preference pairs for DPO out of scored rollouts, best and worst by the penalised
reward.

    {"key", "messages", "responses", "scores"}  ->  {"key", "prompt", "chosen", "rejected", ...}

In TRL's conversational preference format: `prompt` is the messages, `chosen` and `rejected` one
assistant message each. Beside it stand `margin`, the difference of the two rewards, and for either
side its reward, R and S; a trainer that reads columns by name ignores them.

Nothing is scored again: another strength is put into the stored parts, as `candor bon` does. A
prompt of whose candidates none is better than another, or not by the least margin, makes no pair;
so does one with less than two candidates. All are counted. The file is the old one or the whole new
one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from candor.jobs.rollouts.scored import Group, candidates, read_group, scored_rows
from candor.jobs.rollouts.strengths import parse_closed_form, parse_sweeps
from candor.jobs.rollouts.variants import Variant, variants_of
from candor.jobs.running.exits import Exit, UsageError, exit_code
from candor.jobs.running.files import Row, read_rows, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.running.rows import check_paths


def pairs(
    *,
    scored: Path,
    out: Path,
    penalty: list[str] | None = None,
    kappa: list[str] | None = None,
    closed_form: list[str] | None = None,
    min_margin: float = 0.0,
) -> int:
    """Best and worst of each prompt's candidates, as {prompt, chosen, rejected}.

    Parameters
    ----------
    scored
        JSONL written by candor score.
    out
        JSONL in TRL's conversational preference format.
    penalty
        NAME=LAMBDA in place of the strength it was scored with; may be repeated.
    kappa
        NAME=KAPPA: the same by kappa, as the server that scored would have set lambda.
    closed_form
        NAME=BETA or NAME=BETA:THRESHOLD: lambda of each prompt's own candidates.
    min_margin
        Least difference of the two rewards; equal rewards never make a pair.
    """

    def run() -> Exit:
        started = now()
        check_paths(scored, out)
        if not (math.isfinite(min_margin) and min_margin >= 0):
            raise UsageError(f"--min-margin {min_margin}: must be a number, at least 0")
        rows = read_rows(scored)
        good = scored_rows(rows)
        groups = [(row, group) for row in good if (group := read_group(scored, row)) is not None]
        if not groups:
            raise UsageError(f"{scored}: no row has scores")
        for row, _ in groups:
            if "messages" not in row:
                raise UsageError(
                    f"{scored}: key {row['key']!r} has no messages; pairs are conversations"
                )
        changes = changes_of(scored, groups[0], penalty or (), kappa or (), closed_form or ())
        found, dropped = _pairs(groups, changes, min_margin)
        counts = {
            "rows": len(rows),
            "done": len(found),
            "failed": len(rows) - len(groups),
            **{f"dropped_{why}": dropped[why] for why in ("short", "tie", "margin")},
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        write_rows(out, found)
        told = [{"section": one.section, "probe": one.name, **one.told} for one in changes]
        write_manifest(
            out,
            command="pairs",
            inputs={"scored": scored},
            settings={"min_margin": min_margin, "variants": told},
            counts=counts,
            started=started,
        )
        print(orjson.dumps({"out": str(out), **counts}).decode())
        return Exit.DONE

    return exit_code(run)


def changes_of(
    scored: Path,
    first: tuple[Row, Group],
    penalty: Sequence[str],
    kappa: Sequence[str],
    closed_form: Sequence[str],
) -> list[Variant]:
    """The flags as changes to the stored rows: one strength a probe.

    Raises:
        UsageError: not of the form, two strengths for one probe, or as `variants_of`.
    """
    names = []
    for flag, given in (("--penalty", penalty), ("--kappa", kappa)):
        for name, strengths in parse_sweeps(flag, given).items():
            if len(strengths) != 1:
                raise UsageError(f"{flag} {name}: one number, not {len(strengths)}")
            names.append(name)
    names += [parse_closed_form(text)[0] for text in closed_form]
    for name, times in Counter(names).items():
        if times > 1:
            raise UsageError(f"{name!r} is given {times} strengths; give one")
    return variants_of(
        scored, *first, lambda_sweep=penalty, kappa_sweep=kappa, closed_form=closed_form
    )


def _pairs(
    groups: Sequence[tuple[Row, Group]], changes: Sequence[Variant], min_margin: float
) -> tuple[list[Row], Counter[str]]:
    """The pairs, and how many prompts made none, by reason."""
    found: list[Row] = []
    dropped: Counter[str] = Counter()
    for row, group in groups:
        for change in changes:
            group = change.apply(group)
        reward = group.reward
        margin = float(reward.max() - reward.min())
        if len(reward) < 2:
            dropped["short"] += 1
        elif margin == 0:
            dropped["tie"] += 1
        elif margin < min_margin:
            dropped["margin"] += 1
        else:
            found.append(_pair(row, group, margin))
    return found, dropped


def _pair(row: Row, group: Group, margin: float) -> Row:
    best, worst = int(np.argmax(group.reward)), int(np.argmin(group.reward))
    places = candidates(row)

    def side(index: int) -> tuple[list[Row], Row]:
        text = row["responses"][places[index]]["text"]
        told: dict[str, Any] = {
            "reward": float(group.reward[index]),
            "base_reward": float(group.base_reward[index]),
            "scores": {name: float(scores[index]) for name, scores in group.scores.items()},
        }
        return [{"role": "assistant", "content": text}], told

    (chosen, chosen_told), (rejected, rejected_told) = side(best), side(worst)
    return {
        "key": row["key"],
        "prompt": row["messages"],
        "chosen": chosen,
        "rejected": rejected,
        "margin": margin,
        "of_chosen": chosen_told,
        "of_rejected": rejected_told,
    }
