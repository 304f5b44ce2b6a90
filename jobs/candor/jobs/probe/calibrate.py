"""`candor probe calibrate`: the scale of a penalty, from the candidates it will choose among.

A new probe carries the spreads of its training rows, which are composed to differ. The meaning of
kappa (`candor.probes.fitting.calibrate`) depends on how R and S vary among a real policy's
responses to one prompt. So this command measures them on such candidates and writes them into the
probe's card: std(R), std(S), std(bound(S)), the percentiles of S and, with --bound, the bound's
parameters. The weights do not change.

The candidates come from `candor generate`, and the reward model is loaded here; or they come with
their scores from `candor score`. No label is read, and no lambda is chosen.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from cyclopts import Parameter

from candor.engines.choose import EngineName
from candor.flags import UsageError
from candor.jobs.probe.candidates import CANDIDATES, CandidateScores, read_scores, score_rollouts
from candor.jobs.running.exits import Exit, command
from candor.probes import artifact
from candor.probes.bound import BoundKind
from candor.probes.card import Card
from candor.probes.fitting.calibrate import HINGE_PERCENTILE, calibrate, fit_bound, lambda_of
from candor.probes.sources.repositories import load_probe, located


@Parameter(name="*")
@dataclass(frozen=True)
class CalibrateOptions:
    """The options of `candor probe calibrate`."""

    probe: Path
    """Folder of the probe."""
    _: KW_ONLY
    rollouts: Path | None = None
    """JSONL written by `candor generate`: responses to score here, with --model."""
    model: str | None = None
    """The reward model that scores the rollouts: a folder or a Hugging Face name."""
    scored: Path | None = None
    """JSONL written by `candor score` with this probe served, in place of --rollouts and
    --model."""
    out: Path | None = None
    """Folder to write; by default the probe's own card is replaced."""
    bound: BoundKind | None = None
    """Also fit the parameters of this bound, which limits how far S (the probe's score, logits) can
    move the reward. hinge never raises the reward; clip, tanh and none raise it where S is low. By
    default the card's bound stays."""
    hinge_percentile: float | None = None
    """Percentile of S (0 to 100) above which the penalty of --bound hinge begins; default 75."""
    force: Annotated[bool, Parameter(negative="")] = False
    """Replace a card that was calibrated on candidates for more prompts, or another probe that is
    in --out."""
    kappa: float | None = None
    """Also print the lambda (reward units per logit) of this kappa: kappa = lambda * std(bound(S))
    / std(R), both standard deviations within a prompt, R being the reward model's score."""
    device: str = "auto"
    """Device of the reward model; auto is CUDA where there is a GPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the reward model; give the format in which the probe is served."""
    engine: EngineName = "packed"
    """packed computes a context that responses share once; padded is the plain forward pass."""


@command
def calibrate_probe(options: CalibrateOptions) -> Exit:
    """Measure how R and S vary among candidates, and write it into a probe's card.

    Give --rollouts and --model, or --scored.
    """
    _check(options)
    percentile = options.hinge_percentile
    try:
        if options.out is None and located(options.probe) != options.probe:
            raise UsageError(
                f"--probe {options.probe}: is on the Hub; give --out, a folder to write"
            )
        loaded = load_probe(options.probe)
        found = candidate_scores(options, loaded)
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        card = recalibrated(
            loaded.card,
            found,
            options.bound,
            HINGE_PERCENTILE if percentile is None else percentile,
        )
    except ValueError as error:
        raise UsageError(
            f"{options.scored or options.rollouts}: {error} ({len(found.contexts)} responses have "
            f"scores, {found.num_left_out} rows or responses were left out)"
        ) from error
    out = options.out or options.probe
    if not options.force:
        refuse_worse(out, loaded, card)
    artifact.save(out, loaded.probe, card)
    if found.num_left_out:
        print(
            f"candor: left out: {found.num_left_out} rows or responses without a score",
            file=sys.stderr,
        )
    print(json.dumps(headline(out, card, found, options.kappa), allow_nan=False))
    return Exit.DONE


def refuse_worse(out: Path, loaded: artifact.LoadedProbe, card: Card) -> None:
    """Keeps a better card: one for which candidates of more prompts were measured. The calibration
    of a new probe is on its training rows, and any candidates are better.

    Raises:
        UsageError: the card in `out` is better, or belongs to another probe.
    """
    if not (out / artifact.CARD_FILE).exists():
        return
    try:
        there = artifact.load(out)
    except artifact.ArtifactError as error:
        raise UsageError(f"{error}; give --force to replace it") from None
    if there.card.name != card.name or not torch.equal(there.probe.weight, loaded.probe.weight):
        raise UsageError(f"--out {out}: holds another probe; give --force to replace it")
    before, after = there.card.calibration, card.calibration
    if before.source.startswith(CANDIDATES) and before.num_prompts > after.num_prompts:
        raise UsageError(
            f"{out / artifact.CARD_FILE} was calibrated on {before.num_responses} responses to "
            f"{before.num_prompts} prompts, and these are {after.num_responses} to "
            f"{after.num_prompts}: give --out for a new folder, or --force to replace it"
        )


def candidate_scores(options: CalibrateOptions, loaded: artifact.LoadedProbe) -> CandidateScores:
    """R and S of the candidates, read from a scored file or computed here.

    Raises:
        ValueError, UsageError: as `read_scores` and `score_rollouts`.
    """
    if options.scored is not None:
        return read_scores(options.scored, loaded.card)
    assert options.rollouts is not None
    assert options.model is not None
    return score_rollouts(
        options.rollouts, options.model, loaded, options.device, options.dtype, options.engine
    )


def recalibrated(
    card: Card, found: CandidateScores, bound: BoundKind | None, hinge_percentile: float
) -> Card:
    """The card with this calibration and, unless `bound` is None, with this bound.

    Raises:
        ValueError: there are fewer than two prompts with two candidates, or R, S or bound(S) does
            not vary.
    """
    spec = card.bound
    if bound is not None:
        spec = fit_bound(bound, found.scores, found.scores, hinge_percentile=hinge_percentile)
    calibration = calibrate(
        found.rewards, found.scores, found.contexts, bound=spec, source=found.source
    )
    return card.model_copy(update={"bound": spec, "calibration": calibration})


def headline(out: Path, card: Card, found: CandidateScores, kappa: float | None) -> dict[str, Any]:
    """The last line of stdout."""
    calibration = card.calibration
    requested = {} if kappa is None else {"kappa": kappa, "lambda": lambda_of(kappa, calibration)}
    return {
        "probe": card.name,
        "out": str(out),
        **calibration.model_dump(exclude={"source"}),
        "num_left_out": found.num_left_out,
        "bound": card.bound.model_dump(exclude_none=True),
        "lambda_per_kappa": lambda_of(1.0, calibration),
        **requested,
    }


def _check(options: CalibrateOptions) -> None:
    rollouts, percentile, kappa = options.rollouts, options.hinge_percentile, options.kappa
    if (rollouts is None) == (options.scored is None) or (rollouts is None) != (
        options.model is None
    ):
        raise UsageError("give --rollouts and --model, or --scored alone")
    if percentile is not None and (options.bound != "hinge" or not 0 <= percentile <= 100):
        raise UsageError("--hinge-percentile is from 0 to 100 and goes with --bound hinge")
    if kappa is not None and not (math.isfinite(kappa) and kappa >= 0):
        raise UsageError(f"--kappa {kappa}: must be a number, at least 0")
