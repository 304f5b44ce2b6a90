"""`candor bon`: what best-of-N picks under the base reward and under the penalised reward.

Everything comes from stored scores; nothing is scored again. The parts of each reward are stored,
so another strength can be put in (`candor.jobs.rollouts.variants`); each point of a curve is an
exact expectation (`candor.jobs.rollouts.best_of_n.curves`).

A response that could not be scored is no candidate: the choice is among the other responses, as if
that response had not been drawn. A prompt that is left with fewer candidates than the largest N is
left out at every N, so that all points of a curve are about the same prompts. Both are counted in
the report and on stderr, because they are not left out at random (an overlong answer was an
answer).

S is each probe's pooled score as stored, without a bound. Nothing is fitted and no lambda is
chosen.

With `--target` the report also says whether the penalty reduces something
(`candor.jobs.rollouts.best_of_n.reduction`): only against null arms is a fall a finding.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.compare.words import read_words
from candor.jobs.pages.best_of_n import write_bon_page
from candor.jobs.pages.scored import workbench
from candor.jobs.rollouts.best_of_n.curves import RULES, compare
from candor.jobs.rollouts.best_of_n.figures import table_lines
from candor.jobs.rollouts.best_of_n.prompts import Aim, prompts_of
from candor.jobs.rollouts.best_of_n.reduction import reduction
from candor.jobs.rollouts.response_flags import parse_response_flag
from candor.jobs.rollouts.scored import (
    ScoredGroup,
    candidates,
    context_of,
    methods_of,
    say_doubts,
    scored_groups,
    scored_rows,
    within_reach,
)
from candor.jobs.rollouts.served_cards import known_cards, served_nulls
from candor.jobs.rollouts.strengths import ClosedFormOption
from candor.jobs.rollouts.variants import Variant, variants_of
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import Row, read_input, write_json, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.running.rows import check_paths
from candor.page.plots import Plot


@Parameter(name="*")
@dataclass(frozen=True)
class BonOptions:
    """The options of `candor bon`."""

    scored: Path
    """JSONL written by `candor score`."""
    _: KW_ONLY
    out: Path
    """JSON to write: for each N the mean and 95 % interval (t, over prompts) of R (the
    reward model's score), of S (each probe's score, logits) and of the reward (R minus the
    penalties)."""
    n: str = "1,2,4,8,16"
    """The values of N, separated by commas. An N above the number of responses per row becomes that
    number, and the command says so."""
    lambda_sweep: Annotated[list[str] | None, Parameter(negative="")] = None
    """NAME=0,0.5,1,2: the same numbers with each of these lambdas for probe NAME. The penalty is
    lambda * bound(S), with lambda in reward units per logit; bound limits S as the probe's card
    says. May be repeated."""
    kappa_sweep: Annotated[list[str] | None, Parameter(negative="")] = None
    """NAME=0,0.5,1,2: the same with each of these kappas. kappa = lambda * std(bound(S)) / std(R);
    both standard deviations are within a prompt and on the probe's card. May be repeated."""
    closed_form: ClosedFormOption = None
    target: str | None = None
    """What the penalty should make rarer, of each response: contains:TEXT, field:NAME (that field
    is true), probe:NAME>THRESHOLD or verdict:VERDICT (`candor judge`). Adds the part "reduction":
    the target under the penalty and under null arms, which are as strong and know nothing. With a
    sweep it also compares what the arms cost at an equal fall, and the page shows it."""
    where: str | None = None
    """FIELD=VALUE, such as meta.stance=wrong: the prompts that the target is about. What the
    penalty costs is told for every value of the field. By default all prompts."""
    keep: str | None = None
    """What should stay as frequent, in the forms of --target, such as verdict:truth."""
    unit: str | None = None
    """Fields, separated by commas, such as meta.domain,meta.question: prompts that agree in all of
    them count as one unit of the intervals. By default each prompt is a unit."""
    words: Path | None = None
    """words.json of the probe (`candor probe train`): adds the null arm that reads the response's
    words and no activation."""
    seed: int = 0
    """Seed of the permuted penalties."""


@command
def bon(options: BonOptions) -> Exit:
    """Best-of-N under the base reward and under the penalised reward, from a scored file.

    Writes the numbers to --out, the same as a page to OUT.html and, for the largest N, each rule's
    pick from the first N candidates to OUT.chosen.jsonl. Failed rows, responses without a score,
    and rows left with fewer candidates than the largest N are left out and counted.
    """
    started = now()
    scored, out = options.scored, options.out
    check_paths(scored, out)
    ns = _parse_ns(options.n)
    aim = _parse_aim(options)
    rows = read_input(scored)
    good = scored_rows(rows)
    ns = within_reach(scored, good, ns)
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
    report = _heading(counts) | compare([group for _, group in kept], ns, variants)
    report["methods"] = methods_of(kept[0][0])
    fall: dict[str, Plot] = {}
    if aim is not None:
        report["reduction"], fall = _reduction(options, kept, aim, variants, max(ns))
    chosen = out.with_name(out.name + ".chosen.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(chosen, (_chosen_row(row, max(ns)) for row, _ in kept))
    write_json(out, report)
    page = _write_page(options, report, fall, kept, max(ns))
    write_manifest(
        out,
        command="bon",
        inputs={"scored": scored} | ({} if options.words is None else {"words": options.words}),
        settings={
            "n": ns,
            "variants": [v.as_json() for v in variants],
            **{name: getattr(options, name) for name in ("target", "where", "keep", "unit")},
            "seed": options.seed,
        },
        counts=counts,
        started=started,
    )
    _say_left_out(counts, max(ns))
    say_doubts(scored, [(context_of(row), group.base_reward) for row, group in kept])
    if aim is not None:
        print("\n".join(table_lines(report["reduction"])))
    print(orjson.dumps({"page": str(page), **_summary(out, chosen, report)}).decode())
    return Exit.DONE


def _parse_ns(text: str) -> list[int]:
    try:
        ns = sorted({int(part) for part in text.split(",")})
    except ValueError:
        ns = [0]
    if ns[0] < 1:
        raise UsageError(f"--n {text}: must be whole numbers from 1, as in 1,2,4,8,16")
    return ns


def _reduction(
    options: BonOptions,
    kept: Sequence[tuple[Row, ScoredGroup]],
    aim: Aim,
    variants: Sequence[Variant],
    n: int,
) -> tuple[dict[str, Any], dict[str, Plot]]:
    """The report's part `reduction`, and its plots."""
    prompts = prompts_of(
        options.scored,
        kept,
        aim,
        null_probes=served_nulls(options.scored, kept[0][1].scores),
        words=None if options.words is None else read_words(options.words),
        seed=options.seed,
    )
    return reduction(prompts, aim, variants, n)


def _parse_aim(options: BonOptions) -> Aim | None:
    """The options of the part `reduction`; None without a target."""
    if options.target is None:
        for name in ("where", "keep", "unit", "words"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} goes with --target")
        return None
    field, sign, value = (options.where or "").partition("=")
    if options.where is not None and not (field and sign and value):
        raise UsageError(f"--where {options.where}: must be FIELD=VALUE, as in meta.stance=wrong")
    return Aim(
        target=parse_response_flag(options.target, "--target"),
        where=(field, value) if options.where is not None else None,
        keep=None if options.keep is None else parse_response_flag(options.keep, "--keep"),
        unit=tuple(options.unit.split(",")) if options.unit else (),
    )


def _write_page(
    options: BonOptions,
    report: dict[str, Any],
    fall: Mapping[str, Plot],
    kept: Sequence[tuple[Row, ScoredGroup]],
    n: int,
) -> Path:
    """The report as a page beside it."""
    page = options.out.with_name(options.out.name + ".html")
    cards, _ = known_cards(options.scored, kept[0][1].scores)
    found = workbench([row for row, _ in kept], cards)
    title = f"Best of {n}: {options.scored.name}"
    write_bon_page(page, title, report, fall, found, _provenance(options, kept[0][0]))
    return page


def _provenance(options: BonOptions, row: Row) -> dict[str, str]:
    """The table at the end of the page."""
    model = row.get("reward_model", {})
    return {
        "rows": str(options.scored),
        "numbers": str(options.out),
        "reward model": str(model.get("id", "not said")),
        "weights (sha256)": str(model.get("revision", "not said")),
        "formula": str(model.get("formula", "not said")),
    }


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
    verdict = {}
    if "reduction" in report:
        verdict["verdict"] = report["reduction"]["strengths"][0]["verdict"]
    return {
        "out": str(out),
        "chosen": str(chosen),
        "prompts": report["num_prompts"],
        "failed_rows": report["num_failed_rows"],
        "short_rows": report["num_short_rows"],
        "failed_responses": report["num_failed_responses"],
        "n": report["n"][-1],
        **{f"chosen_by_{rule}": report["chosen_by"][rule][-1] for rule in RULES},
        **verdict,
    }
