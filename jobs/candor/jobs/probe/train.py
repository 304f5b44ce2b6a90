"""`candor probe train`: labelled responses and a reward model -> a probe, its card and a report.

The steps: rows -> token ids -> one pass over the reward model, all layers, kept on disk -> layer,
method, C and pooling chosen on the validation groups -> controls -> the test groups, once, and with
changed responses -> bound and calibration -> artefact. The pass takes most of the time; with
`--cache` it is made once.

Progress goes to stderr; the last line of stdout is one JSON object with the main numbers.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.compare.words import WORDS_FILE
from candor.jobs.probe.material import LabelledRows, parse_layers, read_data, tokenise
from candor.jobs.probe.measure import CHOSEN_FIELDS, Fitted, measure, score_all, setting_of
from candor.jobs.probe.reader import RowReader
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import write_json
from candor.jobs.running.manifest import now, package_versions
from candor.jobs.running.progress import progress, say
from candor.models.load import RewardModel, load_reward_model
from candor.probes import artifact
from candor.probes.bound import BoundKind
from candor.probes.card import Card, DataInfo, ModelIdentity
from candor.probes.fitting.activations import TokenActivations
from candor.probes.fitting.calibrate import calibrate, fit_bound
from candor.probes.fitting.collect import Floats, Sequences
from candor.probes.fitting.data import data_sha256
from candor.probes.fitting.fit import METHODS, Method
from candor.probes.fitting.select import (
    POOLINGS,
    Candidate,
    Grid,
    Select,
    choose,
    choose_without_each_kind,
    sweep,
    with_transfer,
)
from candor.probes.fitting.transfer import Fits, Labelled
from candor.probes.probe import Pooling, Probe
from candor.scoring.caveats import caveats
from candor.version import VERSION

TRANSFER_KINDS = 3
"""With this many kinds that have both labels, leaving kinds out is the default way to choose."""

MEASURED_FIELDS = ("train_auroc", "validation_auroc", "validation_ranking", "transfer_ranking")
SWEEP_FIELDS = (*CHOSEN_FIELDS, *MEASURED_FIELDS)


@Parameter(name="*")
@dataclass(frozen=True)
class TrainOptions:
    """The options of `candor probe train`."""

    data: Annotated[list[Path], Parameter(negative="")]
    """JSONL of labelled responses: group (rows of one group, such as one question, stay in the same
    part of the split), label (1: has the trait, 0: does not), response, messages or prompt, kind
    (the family of the row, such as poem-feedback). May be repeated."""
    _: KW_ONLY
    model: str
    """The reward model whose activations the probe reads: a folder or a Hugging Face name."""
    out: Path
    """Folder to write: probe.safetensors, card.json, report.json, and words.json, the bag of words
    that is the probe's control."""
    name: str
    """Name of the probe in requests, such as sycophancy."""
    trait: str
    """One sentence: the meaning of a positive score."""
    layers: str = "all"
    """Hidden states to try: all, 1-30 or 12,16,20 (0 is the embeddings)."""
    method: Annotated[list[Method | Literal["all"]] | None, Parameter(negative="")] = None
    """How weights are fitted; all tries every method. Default: logistic. paper is the recipe of
    arXiv 2412.00967. May be repeated."""
    pooling: Pooling | Literal["all"] = "mean"
    """How a response's token logits become one score S when served; all tries every pooling.
    Fitting uses means, as in the paper."""
    bound: BoundKind = "hinge"
    """How S is limited before it is multiplied by lambda, the penalty's strength. hinge: only the
    part of S above a reference counts, and a low S earns nothing; the reference is the 75th
    percentile of S among the validation rows of label 0. The other bounds are negative where S is
    low, so there the "penalty" raises the reward: clip limits S to its 1st and 99th percentile,
    tanh limits it smoothly on both sides, none (the paper's) leaves it as it is."""
    select: Select | None = None
    """How layer, method and pooling are chosen: transfer by the mean ranking on kinds that the fit
    left out, within by the ranking on the validation groups. The ranking is the AUROC among the
    responses to one prompt, or the AUROC of all where fewer than five prompts have both labels.
    Default: transfer where three kinds have both labels."""
    hold_out_kind: Annotated[list[str] | None, Parameter(negative="")] = None
    """A kind that is left out of fitting and choosing; its test rows are reported. May be
    repeated."""
    cache: Path | None = None
    """Folder that keeps the activations for the next run; by default they are deleted. Size in
    bytes: response tokens x hidden size x bytes per number x layers."""
    seed: int = 0
    """Seed of the split, the paper's fit, the bootstrap intervals and the shuffled labels."""
    device: str = "auto"
    """Device of the reward model; auto is CUDA where there is a GPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the reward model; give the format in which the probe will be served."""
    template_date: date | None = None
    """Date, such as 2026-11-30, for a chat template that writes the date; serve the probe with the
    same --template-date. Not used for other templates. Default: today."""

    @property
    def methods(self) -> list[Method]:
        """The methods to try, in their own order."""
        given = self.method or ["logistic"]
        return [method for method in METHODS if method in given or "all" in given]

    @property
    def poolings(self) -> list[Pooling]:
        """The poolings to try."""
        return list(POOLINGS) if self.pooling == "all" else [self.pooling]


@command
def train(options: TrainOptions) -> Exit:
    """Fit a linear probe on a reward model's activations."""
    with ExitStack() as on_exit:
        try:
            rows = read_data(options.data, options.seed, options.hold_out_kind or ())
            by = selection(rows.labelled, options.select)
            say(f"loading the reward model {options.model}")
            rm = load_reward_model(
                options.model,
                device=options.device,
                dtype=options.dtype,
                template_date=options.template_date,
            )
            layers = parse_layers(options.layers, rm.num_layers)
            sequences = tokenise(rows.rows, rm, rows.places)
            folder = options.cache or Path(on_exit.enter_context(tempfile.TemporaryDirectory()))
            reader = RowReader(rm)
            activations = reader.layers(sequences, layers, folder, rows.places)
        except (ValueError, FileNotFoundError) as error:
            raise UsageError(str(error)) from error
        made = fit_probe(options, rows, reader, sequences, activations, by)
    write(options.out, made.probe, made.card, made.chosen, made.candidates, made.report)
    for caveat in caveats(made.card):
        print(f"candor: {caveat.message}", file=sys.stderr)
    print(json.dumps(headline(options.out, made.card, made.chosen), allow_nan=False))
    return Exit.DONE


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted probe and all that was measured on the way.

    Attributes:
        scores: S of every row, [n] float32.
    """

    probe: Probe
    card: Card
    chosen: Candidate
    candidates: list[Candidate]
    report: dict[str, Any]
    scores: Floats


def fit_probe(
    options: TrainOptions,
    rows: LabelledRows,
    reader: RowReader,
    sequences: Sequences,
    activations: TokenActivations,
    by: Select,
) -> Trained:
    """Fits every setting, chooses one, measures it on the test groups and describes it."""
    fits = Fits(rows.labels, options.seed)
    candidates = candidates_of(activations, rows.labelled, options, fits, by)
    chosen = choose(candidates, by)
    without = chosen_without(activations, rows.labelled, options, fits, by)
    here = activations.read(chosen.layer)
    scores = score_all(here, chosen, len(rows.rows))
    fitted = Fitted(chosen, here, scores, without, by, options.seed)
    weight = torch.from_numpy(chosen.weight)
    probe = Probe(options.name, weight, chosen.bias, chosen.layer, chosen.pooling)
    metrics, report = measure(rows, reader, sequences, fitted, probe)
    card = describe(rows, reader.rm, probe, options, fitted, activations.rewards, metrics)
    return Trained(probe, card, chosen, candidates, report, scores)


def selection(data: Labelled, select: Select | None) -> Select:
    """How to choose: `select`, or by default `transfer` where enough kinds have both labels.

    Raises:
        ValueError: `select` is transfer, and there are not two kinds to leave out.
    """
    kinds = data.two_label_kinds()
    if select == "transfer" and len(kinds) < 2:
        raise ValueError(
            f"--select transfer leaves out one kind at a time: it needs two kinds with both "
            f"labels, and the data has {len(kinds)} ({kinds}); use --select within"
        )
    return select or ("transfer" if len(kinds) >= TRANSFER_KINDS else "within")


def candidates_of(
    activations: TokenActivations,
    data: Labelled,
    options: TrainOptions,
    fits: Fits,
    by: Select,
) -> list[Candidate]:
    """Every setting, fitted on the training groups and measured for the choice."""
    grid = Grid(options.methods, options.poolings)
    with progress(len(activations.layers), "fits", "layer") as bar:
        found = sweep(activations, data, grid, fits, progress=bar.update)
    if by == "within":
        return found
    with progress(len(activations.layers), "kinds left out", "layer") as bar:
        return with_transfer(found, activations, data, fits, progress=bar.update)


def chosen_without(
    activations: TokenActivations,
    data: Labelled,
    options: TrainOptions,
    fits: Fits,
    by: Select,
) -> dict[str, tuple[Candidate, Floats]]:
    """By kind, the probe that is fitted and chosen without it, and S of every row under that probe;
    empty where fewer than two kinds have both labels."""
    if len(data.two_label_kinds()) < 2:
        return {}
    grid = Grid(options.methods, options.poolings)
    passes = len(activations.layers) * (2 if by == "transfer" else 1)
    with progress(passes, "choices without a kind", "layer") as bar:
        found = choose_without_each_kind(activations, data, grid, fits, by, progress=bar.update)
    num_rows = len(data.labels)
    return {
        kind: (chosen, score_all(activations.read(chosen.layer), chosen, num_rows))
        for kind, chosen in found.items()
    }


def describe(
    data: LabelledRows,
    rm: RewardModel,
    probe: Probe,
    options: TrainOptions,
    fitted: Fitted,
    rewards: Floats,
    metrics: dict[str, Any],
) -> Card:
    """The card. Bound and calibration come from train and validation rows, never from test rows."""
    rows, scores, sha256 = data.rows, fitted.scores, data_sha256(data.rows)
    train, validation = list(data.labelled.train), list(data.labelled.validation)
    zeros = [index for index in validation if rows[index].label == 0]
    bound = fit_bound(options.bound, scores[[*train, *validation]], scores[zeros])
    return Card(
        name=probe.name,
        trait=options.trait,
        model=ModelIdentity(
            id=rm.id,
            weights_sha256=rm.weights_sha256,
            hidden_size=rm.hidden_size,
            num_layers=rm.num_layers,
        ),
        template_sha256=rm.template_sha256,
        template_date=None if rm.template_date is None else rm.template_date.isoformat(),
        layer=probe.layer,
        pooling=probe.pooling,
        bound=bound,
        calibration=calibrate(
            rewards[validation],
            scores[validation],
            [rows[index].context for index in validation],
            bound=bound,
            source=f"validation split of {sha256}",
        ),
        metrics=metrics,
        data=DataInfo(
            sha256=sha256,
            num_rows=len(rows),
            num_groups=len({row.group for row in rows}),
            kinds=dict(Counter(row.kind for row in rows)),
        ),
        versions={"candor": VERSION, "python": platform.python_version(), **package_versions()},
        created=now(),
    )


def write(
    out: Path,
    probe: Probe,
    card: Card,
    chosen: Candidate,
    candidates: list[Candidate],
    report: dict[str, Any],
) -> None:
    """The word list, the report with the whole sweep, then the artefact, whose card comes last."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / WORDS_FILE, report.pop("words"))
    whole = {
        "name": card.name,
        "chosen": setting_of(chosen),
        "metrics": card.metrics,
        "sweep": [{key: getattr(each, key) for key in SWEEP_FIELDS} for each in candidates],
    }
    write_json(out / "report.json", whole | report)
    artifact.save(out, probe, card)


def headline(out: Path, card: Card, chosen: Candidate) -> dict[str, Any]:
    """The last line of stdout."""
    metrics = card.metrics
    validation, test, agreement = (
        metrics[key] for key in ("validation", "test", "genuine_agreement")
    )
    return {
        "out": str(out),
        "name": card.name,
        **setting_of(chosen),
        "test_within_prompt_auroc": test["within_prompt_auroc"],
        "test_within_prompt_auroc_interval": [
            test["within_prompt_auroc_low"],
            test["within_prompt_auroc_high"],
        ],
        "validation_auroc": validation["auroc"],
        "test_auroc": test["auroc"],
        "test_auroc_interval": [test["auroc_low"], test["auroc_high"]],
        "test_length_auroc": test["length_auroc"],
        "shuffled_labels_auroc": metrics["shuffled_labels"]["mean_auroc"],
        "kind_aurocs": {row["kind"]: row["auroc"] for row in metrics["kinds"]},
        "transfer_aurocs": {row["kind"]: row["auroc"] for row in metrics["transfer"]},
        "transfer_within_prompt_aurocs": {
            row["kind"]: row["within_prompt_auroc"] for row in metrics["transfer"]
        },
        "genuine_agreement_fpr": agreement and agreement["fpr"],
        "std_R": card.calibration.std_R,
        "std_S": card.calibration.std_S,
        "std_bounded_S": card.calibration.std_bounded_S,
    }
