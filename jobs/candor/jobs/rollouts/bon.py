"""`candor bon`: what best-of-N picks under the base reward and under the penalised reward.

Everything comes from stored scores; nothing is scored again. The parts of each reward are stored,
so another strength can be put in (`candor.jobs.rollouts.variants`). The paper (arXiv 2412.00967)
draws one subset of N candidates for each N. Here each point is the exact expectation over all
subsets, so a curve along N has no sampling noise of its own; a bootstrap over prompts shows the
remaining uncertainty, which is the choice of prompts.

A response that could not be scored is no candidate: the choice is among the other responses, as if
that response had not been drawn. A prompt that is left with fewer candidates than the largest N is
left out at every N, so that all points of a curve are about the same prompts. Both are counted in
the report and on stderr, because they are not left out at random (an overlong answer was an
answer).

S is each probe's pooled score as stored, without a bound. Nothing is fitted and no lambda is
chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.compare.selection import expected, selection_weights
from candor.jobs.rollouts.scored import (
    Array,
    ScoredGroup,
    candidates,
    context_of,
    methods_of,
    say_doubts,
    scored_groups,
    scored_rows,
)
from candor.jobs.rollouts.strengths import ClosedFormOption
from candor.jobs.rollouts.variants import Variant, variants_of
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import Row, read_rows, write_json, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.running.rows import check_paths
from candor.probes.bootstrap import NUM_RESAMPLES, mean_intervals

RULES = ("base_reward", "reward")
"""Choose by R, or by R minus the penalties."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BonOptions:
    """The options of `candor bon`."""

    scored: Path
    """JSONL written by `candor score`."""
    out: Path
    """JSON to write: for each N the mean and 95 % interval (bootstrap over prompts) of R (the
    reward model's score), of S (each probe's score, logits) and of the reward (R minus the
    penalties)."""
    n: str = "1,2,4,8,16"
    """The values of N, separated by commas. The largest N may be at most the number of responses of
    every row."""
    lambda_sweep: Annotated[list[str] | None, Parameter(negative="")] = None
    """NAME=0,0.5,1,2: the same numbers with each of these lambdas for probe NAME. The penalty is
    lambda * bound(S), with lambda in reward units per logit; bound limits S as the probe's card
    says. May be repeated."""
    kappa_sweep: Annotated[list[str] | None, Parameter(negative="")] = None
    """NAME=0,0.5,1,2: the same with each of these kappas. kappa = lambda * std(S) / std(R); both
    standard deviations are within a prompt and on the probe's card. May be repeated."""
    closed_form: ClosedFormOption = None
    seed: int = 0
    """Seed of the bootstrap."""


@command
def bon(options: BonOptions) -> Exit:
    """Best-of-N under the base reward and under the penalised reward, from a scored file.

    Writes the numbers to --out and, for the largest N, each rule's pick from the first N candidates
    to OUT.chosen.jsonl. Failed rows, responses without a score, and rows left with fewer candidates
    than the largest N are left out and counted.
    """
    started = now()
    scored, out = options.scored, options.out
    check_paths(scored, out)
    ns = _parse_ns(options.n)
    rows = read_rows(scored)
    good = scored_rows(rows)
    kept = scored_groups(scored, good, max(ns))
    variants = variants_of(
        scored,
        *kept[0],
        lambda_sweep=options.lambda_sweep,
        kappa_sweep=options.kappa_sweep,
        closed_form=options.closed_form,
    )
    counts = {
        "rows": len(rows),
        "done": len(kept),
        "failed": len(rows) - len(good),
        "short": len(good) - len(kept),
        "failed_responses": sum(len(row["scores"]) - len(candidates(row)) for row in good),
    }
    report = _heading(counts) | compare([group for _, group in kept], ns, variants, options.seed)
    report["methods"] = methods_of(kept[0][0])
    chosen = out.with_name(out.name + ".chosen.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(chosen, (_chosen_row(row, max(ns)) for row, _ in kept))
    write_json(out, report)
    write_manifest(
        out,
        command="bon",
        inputs={"scored": scored},
        settings={"n": ns, "variants": [v.as_json() for v in variants], "seed": options.seed},
        counts=counts,
        started=started,
    )
    _say_left_out(counts, max(ns))
    say_doubts(scored, [(context_of(row), group.base_reward) for row, group in kept])
    print(orjson.dumps(_summary(out, chosen, report)).decode())
    return Exit.DONE


def picked(group: ScoredGroup, rule: str, n: int) -> Array:
    """[K]: expected R, S of each probe, and reward of the best-of-n pick by `rule`."""
    weights = selection_weights(group.base_reward if rule == "base_reward" else group.reward, n)
    rows = [group.base_reward, *group.scores.values(), group.reward]
    return np.array([expected(row, weights) for row in rows])


def curve(
    groups: Sequence[ScoredGroup], rule: str, ns: Sequence[int], seed: int
) -> list[dict[str, Any]]:
    """One entry per n: mean and interval of the pick's R, each S and reward."""
    names = list(groups[0].scores)
    values = np.array([[picked(group, rule, n) for n in ns] for group in groups])  # [P, N, K]
    flat = values.reshape(len(groups), -1)
    low, high = (side.reshape(values.shape[1:]) for side in mean_intervals(flat, seed=seed))
    mean = values.mean(axis=0)

    def interval(k: int, column: int) -> dict[str, float]:
        sides = (mean[k, column], low[k, column], high[k, column])
        return dict(zip(("mean", "low", "high"), map(float, sides), strict=True))

    return [
        {
            "n": n,
            "base_reward": interval(k, 0),
            "scores": {name: interval(k, 1 + i) for i, name in enumerate(names)},
            "reward": interval(k, 1 + len(names)),
        }
        for k, n in enumerate(ns)
    ]


def compare(
    groups: Sequence[ScoredGroup], ns: Sequence[int], variants: Sequence[Variant], seed: int
) -> dict[str, Any]:
    """The report: both rules at every n, and the penalised rule under every variant."""
    report: dict[str, Any] = {
        "n": list(ns),
        "interval": f"95 %, bootstrap over prompts, {NUM_RESAMPLES} resamples, seed {seed}",
        "chosen_by": {rule: curve(groups, rule, ns, seed) for rule in RULES},
        "lambda_sweep": {},
        "kappa_sweep": {},
        "closed_form": {},
    }
    for variant in variants:
        changed = [variant.apply(group) for group in groups]
        entry: dict[str, Any] = dict(variant.strength)
        if variant.section == "closed_form":
            lambdas = [group.lambdas[variant.name][0] for group in changed]
            entry["mean_lambda"] = float(np.mean(lambdas))
            entry["share_penalised"] = float(np.mean([lambda_ > 0 for lambda_ in lambdas]))
        entry["best_of_n"] = curve(changed, "reward", ns, seed)
        report[variant.section].setdefault(variant.name, []).append(entry)
    return report


def _parse_ns(text: str) -> list[int]:
    try:
        ns = sorted({int(part) for part in text.split(",")})
    except ValueError:
        ns = [0]
    if ns[0] < 1:
        raise UsageError(f"--n {text}: must be whole numbers from 1, as in 1,2,4,8,16")
    return ns


def _chosen_row(row: Row, n: int) -> Row:
    """What each rule picks from the first n candidates (any n are as good); the first of equals.

    `index` counts the row's responses, those without scores included.
    """
    chosen = {}
    for rule in RULES:
        rewards = {index: row["scores"][index][rule] for index in candidates(row)[:n]}
        best = max(rewards, key=rewards.__getitem__)
        chosen[rule] = {"index": best, **row["responses"][best], **row["scores"][best]}
    kept: Row = {name: row[name] for name in ("key", "messages", "prompt", "meta") if name in row}
    return {**kept, "n": n, "chosen_by": chosen}


def _heading(counts: Mapping[str, int]) -> dict[str, int]:
    return {
        "num_prompts": counts["done"],
        "num_failed_rows": counts["failed"],
        "num_short_rows": counts["short"],
        "num_failed_responses": counts["failed_responses"],
    }


def _say_left_out(counts: Mapping[str, int], n: int) -> None:
    if counts["failed"] or counts["failed_responses"]:  # nothing else makes a row short
        print(
            f"candor: left out: {counts['failed']} rows that failed; "
            f"{counts['failed_responses']} responses that could not be scored; "
            f"{counts['short']} rows with fewer than {n} scored responses",
            file=sys.stderr,
        )


def _summary(out: Path, chosen: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """The last line of stdout: the numbers at the largest N."""
    return {
        "out": str(out),
        "chosen": str(chosen),
        "prompts": report["num_prompts"],
        "failed_rows": report["num_failed_rows"],
        "short_rows": report["num_short_rows"],
        "failed_responses": report["num_failed_responses"],
        "n": report["n"][-1],
        **{f"chosen_by_{rule}": report["chosen_by"][rule][-1] for rule in RULES},
    }
