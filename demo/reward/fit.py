"""Fits the demo's reward model, and on it the probe and its null probes (`RETRAIN=1`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from candor.jobs.probe.calibrate import CalibrateOptions, calibrate_probe
from candor.jobs.probe.null import NullKind, NullOptions, null_probes
from candor.jobs.probe.train import train
from candor.jobs.probe.training.options import TrainOptions
from candor.jobs.running.files import write_rows
from candor.probes.kinds.grounded.arithmetic import sum_questions
from candor.probes.kinds.grounded.pressed import pressed_rows
from candor.probes.kinds.grounded.rows import grounded_rows
from demo.grounded.answers import Answered, answered, dev_rollouts, labelled
from demo.grounded.asked import PER_DOMAIN, SEEDS, TRAIN_WORDINGS, asked
from demo.poems.draws import drawn_rows
from demo.poems.pairs import probe_rows
from demo.reward.model import SEED, TRAINED_SHARES, fit_frozen, measure, training_pairs, weights_of
from demo.reward.trunk import fit_adapter, merge_adapter
from demo.servers import PROBE, WRITING_PROBE

HINGE_PERCENTILE = 50.0
"""The penalty begins at the median S of the dev answers (docs/decisions.md)."""

LAYERS = "16-20"
"""Hidden states that are tried, around the middle of the trunk."""

NUM_NULLS = 4
"""Null probes of each kind."""

TRAITS = {
    PROBE: "The reply gives the wrong answer that the user believes.",
    WRITING_PROBE: "The reply sides with the user's opinion of the piece, whatever it deserves.",
}


def fit_frozen_trunk(generator: Path, model: Path) -> tuple[list[Answered], dict[str, Any]]:
    """A head on the generator's own trunk: the answers it was fitted on, and its report."""
    answers = answered(generator)
    pairs = training_pairs(answers)
    report = fit_frozen(generator, model, pairs)
    return answers, measure(model, pairs) | report


def fit_trained_trunk(
    generator: Path, frozen: Path, adapter: Path, model: Path
) -> tuple[list[Answered], dict[str, Any]]:
    """Adapters on the reward model `frozen`, merged into `model`: as `fit_frozen_trunk`."""
    answers = answered(generator)
    pairs = training_pairs(answers)
    fit_adapter(frozen, adapter, pairs, weights_of(pairs, TRAINED_SHARES), seed=SEED)
    merge_adapter(frozen, adapter, model)
    return answers, measure(model, pairs)


def fit_probes(out: Path, answers: Sequence[Answered]) -> None:
    """Fit the two probes on OUT/model into OUT/probes, and the null probes of the first into
    OUT/nulls.

    The first is calibrated on the generator's answers to the dev questions, the second on its own
    validation rows.
    """
    generator, model = out / "generator", str(out / "model")
    rows = {name: out / f"{name}-rows.jsonl" for name in TRAITS}
    write_question_rows(rows[PROBE], answers)
    write_writing_rows(rows[WRITING_PROBE], generator)
    for name, trait in TRAITS.items():
        options = TrainOptions(
            data=[rows[name]],
            model=model,
            layers=LAYERS,
            select="within",
            out=out / "probes" / name,
            name=name,
            trait=trait,
        )
        _done(train(options))
    probe, rollouts = out / "probes" / PROBE, out / "dev-rollouts.jsonl"
    write_rows(rollouts, dev_rollouts(generator))
    calibrated = CalibrateOptions(
        probe=probe,
        rollouts=rollouts,
        model=model,
        bound="hinge",
        hinge_percentile=HINGE_PERCENTILE,
    )
    _done(calibrate_probe(calibrated))
    kinds: dict[NullKind, list[Path] | None] = {
        "random-direction": None,
        "shuffled-labels": [rows[PROBE]],
    }
    for kind, data in kinds.items():
        options_of_null = NullOptions(
            probe=probe,
            out=out / "nulls",
            kind=kind,
            count=NUM_NULLS,
            rollouts=rollouts,
            model=model,
            data=data,
        )
        _done(null_probes(options_of_null))


def _done(code: int) -> None:
    if code:
        raise SystemExit(code)


def write_question_rows(path: Path, answers: Sequence[Answered]) -> None:
    """Write composed rows about questions and sums, and the generator's judged answers."""
    questions = asked("train")
    sums = sum_questions(PER_DOMAIN["train"], seed=SEEDS["train"])
    composed = [
        *grounded_rows([*questions, *sums], seed=SEED, wordings=TRAIN_WORDINGS),
        *pressed_rows(questions, seed=SEED),
    ]
    rows = [row.model_dump(mode="json", exclude_defaults=True) for row in composed]
    write_rows(path, [*rows, *labelled(answers)])


def write_writing_rows(path: Path, generator: Path) -> None:
    """Write composed rows about the train and dev pieces, and judged samples on the training
    poems. `candor probe train` splits them by group itself."""
    rows = [row for split in ("train", "dev") for row in probe_rows(split, seed=SEED)]
    write_rows(path, [*rows, *drawn_rows(generator)])
