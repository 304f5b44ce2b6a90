"""`candor probe train`: labelled responses and a reward model -> a probe, its card and a report.

Reads top to bottom: rows -> token ids -> one pass over all layers, kept on disk -> layer, method, C
and pooling chosen on the validation groups -> controls -> the test groups, once -> bound and
calibration -> artefact. What takes long is the pass; with `--cache` it is made once.

Progress goes to stderr; the last line of stdout is one JSON object with the headline numbers.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from cyclopts import Parameter
from tqdm import tqdm

from candor.engines.choose import build_engine
from candor.jobs.probe.material import Rows, parse_layers, read_data, tokenise
from candor.jobs.probe.measure import Fitted, measure, score_all
from candor.jobs.running.exits import Exit, UsageError, exit_code
from candor.jobs.running.files import write_json
from candor.jobs.running.manifest import now, package_versions
from candor.models.load import RewardModel, load_reward_model
from candor.probes import artifact
from candor.probes.bound import BoundKind
from candor.probes.card import Card, DataInfo, ModelIdentity
from candor.probes.fitting.activations import (
    TokenActivations,
    activations_key,
    missing_layers,
    read_tokens,
)
from candor.probes.fitting.calibrate import calibrate, fit_bound
from candor.probes.fitting.collect import Floats, Sequences
from candor.probes.fitting.data import data_sha256
from candor.probes.fitting.fit import METHODS, Method
from candor.probes.fitting.select import POOLINGS, Candidate, Select, choose, sweep, with_transfer
from candor.probes.fitting.transfer import Labelled
from candor.probes.probe import Pooling, Probe
from candor.version import VERSION

TRANSFER_KINDS = 3
"""Kinds with both labels from which on leaving each out in turn is the default way to choose."""

CHOSEN = ("layer", "method", "C", "pooling")
CURVE = (*CHOSEN, "train_auroc", "validation_auroc", "validation_pair_accuracy", "transfer_auroc")


def train(
    *,
    data: Annotated[list[Path], Parameter(negative="")],
    model: str,
    out: Path,
    name: str,
    trait: str,
    layers: str = "all",
    method: Annotated[list[Method | Literal["all"]] | None, Parameter(negative="")] = None,
    pooling: Pooling | Literal["all"] = "mean",
    bound: BoundKind = "clip",
    select: Select | None = None,
    hold_out_kind: Annotated[list[str] | None, Parameter(negative="")] = None,
    cache: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
) -> int:
    """Fit a linear probe on a reward model's activations.

    Parameters
    ----------
    data
        JSONL of labelled responses: group, label (0 or 1), response, messages or prompt, kind. May
        be given several times.
    model
        The reward model: a folder or a Hugging Face name.
    out
        Directory to write: probe.safetensors, card.json, report.json.
    name
        How requests will call the probe, e.g. sycophancy.
    trait
        One sentence: what a positive score means.
    layers
        Hidden states to try: all, 1-30 or 12,16,20 (0 = embeddings).
    method
        How weights are fitted; may be given several times, all tries every one. logistic if not
        given; paper is the recipe of arXiv 2412.00967.
    pooling
        How serving pools a response's token logits; all tries every one. Fitting is on means, as in
        the paper.
    bound
        How far one score may move the reward.
    select
        transfer chooses by the AUROC on a kind that the fit left out, averaged over the kinds;
        within by the AUROC on the validation groups. transfer where three kinds have both labels.
    hold_out_kind
        A kind to keep out of fitting and choosing; its test rows are reported. May be given several
        times.
    cache
        Directory that keeps the activations for the next run; a temporary one if not given. Size:
        tokens of the responses x width x bytes a number x layers.
    seed
        Of the split, the paper's fit, the bootstrap and the shuffled labels.
    device
        auto is CUDA when there is one.
    dtype
        The one the probe will be served in; auto is the server's auto.
    """
    asked = method or ["logistic"]
    methods = [m for m in METHODS if m in asked or "all" in asked]
    poolings: list[Pooling] = list(POOLINGS) if pooling == "all" else [pooling]

    def run() -> Exit:
        with ExitStack() as on_exit:
            try:
                rows = read_data(data, seed, hold_out_kind or ())
                by = selection(rows.labelled, select)
                rm = load_reward_model(model, device=device, dtype=dtype)
                wanted = parse_layers(layers, rm.num_layers)
                sequences = tokenise(rows.rows, rm, rows.places)
                folder = cache or Path(on_exit.enter_context(tempfile.TemporaryDirectory()))
                activations = read_layers(rows, rm, sequences, wanted, folder)
            except (ValueError, FileNotFoundError) as error:
                raise UsageError(str(error)) from error
            candidates = candidates_of(activations, rows.labelled, methods, poolings, by, seed)
            chosen = choose(candidates, by)
            here = activations.read(chosen.layer)
            fitted = Fitted(chosen, here, score_all(here, chosen, len(rows.rows)), by, seed)
            probe = Probe(
                name, torch.from_numpy(chosen.weight), chosen.bias, chosen.layer, chosen.pooling
            )
            metrics, report = measure(rows, rm, sequences, fitted)
            card = describe(rows, rm, probe, trait, bound, fitted, activations.rewards, metrics)
            write(out, probe, card, fitted.chosen, candidates, report)
        print(json.dumps(headline(out, card, fitted.chosen), allow_nan=False))
        return Exit.DONE

    return exit_code(run)


def selection(data: Labelled, select: Select | None) -> Select:
    """How to choose: as asked, else `transfer` where enough kinds have both labels.

    Raises:
        ValueError: `transfer` was asked for and there are not two kinds to leave out.
    """
    kinds = data.two_label_kinds()
    if select == "transfer" and len(kinds) < 2:
        raise ValueError(
            f"--select transfer leaves out one kind at a time: it needs two kinds with both "
            f"labels, and the data has {len(kinds)} ({kinds}); use --select within"
        )
    return select or ("transfer" if len(kinds) >= TRANSFER_KINDS else "within")


def read_layers(
    rows: Rows, rm: RewardModel, sequences: Sequences, layers: list[int], cache: Path
) -> TokenActivations:
    """One forward over everything, the sealed test rows included: it looks at no label.

    By the engine that serves, so that what rows share is computed once.
    """
    key = activations_key(
        sequences, weights_sha256=rm.weights_sha256, dtype=rm.dtype, device=rm.device
    )
    packed = False
    if missing_layers(cache / key, layers):
        packed = build_engine("packed", rm.model, [], device=rm.device).name == "packed"
    with tqdm(total=len(sequences), desc="activations", unit="response") as bar:
        return read_tokens(
            rm.model,
            sequences,
            layers,
            cache / key,
            packed=packed,
            names=rows.places,
            progress=bar.update,
        )


def candidates_of(
    activations: TokenActivations,
    data: Labelled,
    methods: list[Method],
    poolings: list[Pooling],
    by: Select,
    seed: int,
) -> list[Candidate]:
    """Every setting, fitted on the training groups and measured as the choice needs it."""
    with tqdm(total=len(activations.layers), desc="fits", unit="layer") as bar:
        found = sweep(
            activations, data, methods=methods, poolings=poolings, seed=seed, progress=bar.update
        )
    if by == "within":
        return found
    with tqdm(total=len(activations.layers), desc="kinds left out", unit="layer") as bar:
        return with_transfer(found, activations, data, seed=seed, progress=bar.update)


def describe(
    data: Rows,
    rm: RewardModel,
    probe: Probe,
    trait: str,
    bound: BoundKind,
    fitted: Fitted,
    rewards: Floats,
    metrics: dict[str, Any],
) -> Card:
    """The card. Bound and calibration come from train and validation rows: test decides nothing."""
    rows, scores, sha256 = data.rows, fitted.scores, data_sha256(data.rows)
    train, validation = list(data.labelled.train), list(data.labelled.validation)
    zeros = [index for index in validation if rows[index].label == 0]
    return Card(
        name=probe.name,
        trait=trait,
        model=ModelIdentity(
            id=rm.id,
            weights_sha256=rm.weights_sha256,
            hidden_size=rm.hidden_size,
            num_layers=rm.num_layers,
        ),
        template_sha256=rm.template_sha256,
        layer=probe.layer,
        pooling=probe.pooling,
        bound=fit_bound(bound, scores[[*train, *validation]], scores[zeros]),
        calibration=calibrate(
            rewards[validation],
            scores[validation],
            [rows[index].context for index in validation],
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
    """The report with the whole sweep, then the artefact, whose card comes last."""
    out.mkdir(parents=True, exist_ok=True)
    whole = {
        "name": card.name,
        "chosen": {key: getattr(chosen, key) for key in CHOSEN},
        "metrics": card.metrics,
        "sweep": [{key: getattr(one, key) for key in CURVE} for one in candidates],
    }
    write_json(out / "report.json", whole | report)
    artifact.save(out, probe, card)


def headline(out: Path, card: Card, chosen: Candidate) -> dict[str, Any]:
    """What the last line of stdout says."""
    metrics = card.metrics
    validation, test, agreement = (
        metrics[key] for key in ("validation", "test", "genuine_agreement")
    )
    return {
        "out": str(out),
        "name": card.name,
        **{key: getattr(chosen, key) for key in CHOSEN},
        "validation_auroc": validation["auroc"],
        "test_auroc": test["auroc"],
        "test_auroc_interval": [test["auroc_low"], test["auroc_high"]],
        "test_pair_accuracy": test["pair_accuracy"],
        "test_length_auroc": test["length_auroc"],
        "shuffled_labels_auroc": metrics["shuffled_labels"]["mean_auroc"],
        "kind_aurocs": {row["kind"]: row["auroc"] for row in metrics["kinds"]},
        "transfer_aurocs": {row["kind"]: row["auroc"] for row in metrics["transfer"]},
        "genuine_agreement_fpr": agreement and agreement["fpr"],
        "std_R": card.calibration.std_R,
        "std_S": card.calibration.std_S,
    }
