"""`candor probe calibrate`: the scale of a penalty, from the candidates it will choose among.

A probe comes with the spreads of its training rows, which are composed to differ. What kappa means
(`candor.probes.fitting.calibrate`) depends on how R and S vary among the responses of a real policy
to one prompt, so this reads them off such candidates and writes them into the probe's card: std(R),
std(S), the percentiles of S and, if asked, the bound's parameters. The weights stay as they are.

Candidates come as `candor generate` writes them, and the reward model is loaded here; or with their
scores, as `candor score` writes them. No label is looked at, and no lambda is chosen.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

from candor.engines.choose import EngineName
from candor.jobs.probe.candidates import Candidates, read_scores, score_rollouts
from candor.jobs.running.exits import Exit, UsageError, exit_code
from candor.probes import artifact
from candor.probes.bound import BoundKind
from candor.probes.card import Card
from candor.probes.fitting.calibrate import HINGE_PERCENTILE, calibrate, fit_bound, lambda_of


def calibrate_probe(
    *,
    probe: Path,
    rollouts: Path | None = None,
    model: str | None = None,
    scored: Path | None = None,
    out: Path | None = None,
    bound: BoundKind | None = None,
    hinge_percentile: float | None = None,
    kappa: float | None = None,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    engine: EngineName = "packed",
) -> int:
    """Measure how R and S vary among candidates, and write it into a probe's card.

    Give --rollouts and --model, or --scored.

    Parameters
    ----------
    probe
        Directory of the probe.
    rollouts
        JSONL written by `candor generate`: candidates to score here.
    model
        The reward model they are scored with: a folder or a Hugging Face name.
    scored
        JSONL written by `candor score` with this probe served.
    out
        Directory to write; default: the probe's own card is replaced.
    bound
        Also fit this bound's parameters to the S found; default: the card's bound stays.
    hinge_percentile
        Of S, where the penalty of `--bound hinge` begins; 75 unless given.
    kappa
        Also say which lambda this kappa is.
    device
        auto is CUDA when there is one.
    dtype
        The one the probe is served in; auto is the server's auto.
    engine
        packed computes a shared context once; padded is the plain forward.
    """

    def run() -> Exit:
        _check_options(rollouts, model, scored, bound, hinge_percentile, kappa)
        try:
            loaded = artifact.load(probe)
            if scored is not None:
                found = read_scores(scored, loaded.card)
            else:
                assert rollouts is not None
                assert model is not None
                found = score_rollouts(rollouts, model, loaded, device, dtype, engine)
            at = HINGE_PERCENTILE if hinge_percentile is None else hinge_percentile
            card = recalibrated(loaded.card, found, bound, at)
        except ValueError as error:
            raise UsageError(str(error)) from error
        artifact.save(out or probe, loaded.probe, card)
        print(json.dumps(headline(out or probe, card, found, kappa), allow_nan=False))
        return Exit.DONE

    return exit_code(run)


def recalibrated(
    card: Card, found: Candidates, bound: BoundKind | None, hinge_percentile: float
) -> Card:
    """The card with this calibration, and with this bound where one is asked for.

    Raises:
        ValueError: fewer than two prompts with two candidates, or R or S does not vary.
    """
    changes: dict[str, Any] = {
        "calibration": calibrate(found.rewards, found.scores, found.contexts, source=found.source)
    }
    if bound is not None:
        changes["bound"] = fit_bound(
            bound, found.scores, found.scores, hinge_percentile=hinge_percentile
        )
    return card.model_copy(update=changes)


def headline(out: Path, card: Card, found: Candidates, kappa: float | None) -> dict[str, Any]:
    """What the last line of stdout says."""
    calibration = card.calibration
    asked = {} if kappa is None else {"kappa": kappa, "lambda": lambda_of(kappa, calibration)}
    return {
        "probe": card.name,
        "out": str(out),
        **calibration.model_dump(exclude={"source"}),
        "num_left_out": found.num_left_out,
        "bound": card.bound.model_dump(exclude_none=True),
        "lambda_per_kappa": lambda_of(1.0, calibration),
        **asked,
    }


def _check_options(
    rollouts: Path | None,
    model: str | None,
    scored: Path | None,
    bound: BoundKind | None,
    hinge_percentile: float | None,
    kappa: float | None,
) -> None:
    if (rollouts is None) == (scored is None) or (rollouts is None) != (model is None):
        raise UsageError("give --rollouts and --model, or --scored alone")
    if hinge_percentile is not None and (bound != "hinge" or not 0 <= hinge_percentile <= 100):
        raise UsageError("--hinge-percentile is from 0 to 100 and goes with --bound hinge")
    if kappa is not None and not (math.isfinite(kappa) and kappa >= 0):
        raise UsageError(f"--kappa {kappa}: must be a number >= 0")
