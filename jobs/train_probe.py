"""`candor probe train`: labelled responses and a reward model -> a probe, its card and a report.

Reads top to bottom: rows -> token ids -> one pass over all layers -> layer and C chosen on the
validation groups -> controls -> the test groups, once -> bound and calibration -> artefact. One fit
method and no resuming: what takes long is the one pass, and what it collects fits in memory.

Progress goes to stderr; the last line of stdout is one JSON object with the headline numbers.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from jobs.exits import Exit, JobStopped, exit_code
from jobs.files import write_json
from jobs.manifest import now, package_versions
from probes import artifact, evaluate
from probes.bound import BoundKind
from probes.calibrate import calibrate, fit_bound, shared_contexts
from probes.card import Card, DataInfo, ModelIdentity
from probes.collect import Activations, Floats, Sequences, collect, pooled_scores
from probes.data import Row, Split, data_sha256, load_rows, split_by_group
from probes.probe import Probe
from probes.select import Candidate, choose, sweep
from service import VERSION
from service.errors import CandorError
from service.model import RewardModel, load_reward_model
from service.render import Renderer
from service.schema import Message


def train(
    *,
    data: Path,
    model: str,
    out: Path,
    name: str,
    trait: str,
    layers: str = "all",
    seed: int = 0,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    pooling: Literal["mean", "max", "last", "topk"] = "mean",
    bound: BoundKind = "clip",
) -> int:
    """Fit a linear probe on a reward model's activations.

    Parameters
    ----------
    data
        JSONL of labelled responses: group, label (0 or 1), response, messages or prompt, kind.
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
    seed
        Of the split, the bootstrap and the shuffled labels.
    device
        auto is CUDA when there is one.
    dtype
        The one the probe will be served in; auto is the server's auto.
    pooling
        How serving pools a response's token logits; training is on means, as in the paper.
    bound
        How far one score may move the reward.
    """

    def run() -> Exit:
        try:
            rows, split = read_data(data, seed)
            rm = load_reward_model(model, device=device, dtype=dtype)
            wanted = parse_layers(layers, rm.num_layers)
            material = Material(rows, split, rm, tokenise(rows, rm, data))
        except (ValueError, FileNotFoundError) as error:
            raise JobStopped(Exit.USAGE, str(error)) from error
        activations = read_layers(material, wanted)
        candidates = sweep_layers(material, activations)
        chosen = choose(candidates)
        weight = torch.from_numpy(chosen.weight)
        probe = Probe(name, weight, chosen.bias, chosen.layer, pooling)
        scores = serving_scores(material, activations, probe)
        metrics = measure(material, activations, chosen, scores, seed)
        card = describe(material, probe, trait, bound, scores, activations.rewards, metrics)
        write(out, probe, card, candidates)
        print(json.dumps(headline(out, card), allow_nan=False))
        return Exit.DONE

    return exit_code(run)


@dataclass(frozen=True)
class Material:
    """What goes in: labelled rows, their split, and the rows as this reward model reads them."""

    rows: list[Row]
    split: Split
    rm: RewardModel
    sequences: Sequences

    @property
    def labels(self) -> evaluate.Ints:
        return np.array([row.label for row in self.rows], dtype=np.int64)

    def groups(self, indices: Sequence[int]) -> list[str]:
        return [self.rows[index].group for index in indices]


def read_data(data: Path, seed: int) -> tuple[list[Row], Split]:
    """The rows and their split; what the calibration would refuse is refused now, not hours later.

    Raises:
        ValueError: a line that is not a row, or rows that cannot be split or calibrated on.
    """
    rows = load_rows(data)
    split = split_by_group(rows, seed)
    shared_contexts([rows[index].context for index in split.validation])
    return rows, split


def tokenise(rows: Sequence[Row], rm: RewardModel, data: Path) -> Sequences:
    """Token ids and response spans by the server's renderer: training and serving read the same.

    Raises:
        ValueError: a row that the server would refuse, as `file:line: reason`.
    """
    renderer = Renderer(rm.tokenizer, max_length=rm.max_length, ending=rm.ending)
    sequences = []
    for number, row in enumerate(rows, start=1):
        turns = [Message(role=turn.role, content=turn.content) for turn in row.messages or ()]
        try:
            item = renderer.encode(turns if row.prompt is None else row.prompt, row.response)
        except CandorError as error:
            raise ValueError(f"{data}:{number}: {error.message}") from error
        sequences.append((item.token_ids, item.response_start, item.response_end))
    return sequences


def parse_layers(text: str, num_layers: int) -> list[int]:
    """`all`, `1-30`, `12,16,20` or `1-4,8` -> sorted indices into hidden_states.

    Raises:
        ValueError: not of this form, or a layer that the model does not have.
    """
    if text == "all":
        return list(range(num_layers + 1))
    layers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            layers.update(range(int(first), int(last or first) + 1))
        except ValueError:
            raise ValueError(f"--layers {text!r}: use all, 1-30 or 12,16,20") from None
    if not layers or max(layers) > num_layers:
        raise ValueError(f"--layers {text!r}: this model has layers 0 to {num_layers}")
    return sorted(layers)


def read_layers(material: Material, layers: Sequence[int]) -> Activations:
    """One forward over everything, the sealed test rows included: it looks at no label."""
    sequences = material.sequences
    with tqdm(total=len(sequences), desc="activations", unit="response") as bar:
        return collect(material.rm.model, sequences, layers, progress=bar.update)


def sweep_layers(material: Material, activations: Activations) -> list[Candidate]:
    """Every (layer, C), fitted on the training groups and measured on the validation groups."""
    groups = material.groups(range(len(material.rows)))
    parts = material.split.train, material.split.validation
    with tqdm(total=len(activations.means), desc="fits", unit="layer") as bar:
        return sweep(activations.means, material.labels, groups, *parts, progress=bar.update)


def serving_scores(material: Material, activations: Activations, probe: Probe) -> Floats:
    """S of every row as the server will read it: [n] float32."""
    if probe.pooling == "mean":  # affine, so the mean logit is the logit at the mean
        scores: Floats = activations.means[probe.layer] @ probe.weight.numpy() + probe.bias
        return scores
    return pooled_scores(material.rm.model, material.sequences, probe)


def measure(
    material: Material, activations: Activations, chosen: Candidate, scores: Floats, seed: int
) -> dict[str, Any]:
    """Validation, controls, and the test part, which is opened here and nowhere else."""
    labels, train = material.labels, list(material.split.train)
    lengths = np.array([end - start for _, start, end in material.sequences])
    sign = evaluate.length_sign(lengths[train], labels[train])

    def part(indices: Sequence[int]) -> dict[str, Any]:
        rows = list(indices)
        groups = material.groups(rows)
        measured = evaluate.summarise(scores[rows], labels[rows], groups, seed=seed)
        length_auroc = evaluate.auroc(sign * lengths[rows], labels[rows])
        return measured | {"length_auroc": length_auroc}

    validation = list(material.split.validation)
    means = activations.means[chosen.layer]
    shuffled = evaluate.shuffled_label_aurocs(
        means[train], labels[train], means[validation], labels[validation], C=chosen.C, seed=seed
    )
    return {
        "fit": {
            "method": "logistic",
            "C": chosen.C,
            "train_auroc": chosen.train_auroc,
            "dtype": str(material.rm.dtype).removeprefix("torch."),
            "seed": seed,
        },
        "validation": part(validation),
        "shuffled_labels": {
            "mean_auroc": float(np.mean(shuffled)),
            "max_auroc": max(shuffled),
            "permutations": len(shuffled),
        },
        "test": part(material.split.test.open()),
    }


def describe(
    material: Material,
    probe: Probe,
    trait: str,
    bound: BoundKind,
    scores: Floats,
    rewards: Floats,
    metrics: dict[str, Any],
) -> Card:
    """The card. Bound and calibration come from train and validation rows: test decides nothing."""
    rows, rm, sha256 = material.rows, material.rm, data_sha256(material.rows)
    validation = list(material.split.validation)
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
        bound=fit_bound(bound, scores[[*material.split.train, *validation]], scores[zeros]),
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


def write(out: Path, probe: Probe, card: Card, candidates: Sequence[Candidate]) -> None:
    """The report with the whole layer curve, then the artefact, whose card comes last."""
    columns = ("layer", "C", "train_auroc", "validation_auroc", "validation_pair_accuracy")
    curve = [{name: getattr(candidate, name) for name in columns} for candidate in candidates]
    out.mkdir(parents=True, exist_ok=True)
    chosen = {"layer": card.layer, "C": card.metrics["fit"]["C"]}
    report = {"name": card.name, "chosen": chosen, "metrics": card.metrics, "sweep": curve}
    write_json(out / "report.json", report)
    artifact.save(out, probe, card)


def headline(out: Path, card: Card) -> dict[str, Any]:
    """What the last line of stdout says."""
    validation, test = card.metrics["validation"], card.metrics["test"]
    return {
        "out": str(out),
        "name": card.name,
        "layer": card.layer,
        "C": card.metrics["fit"]["C"],
        "validation_auroc": validation["auroc"],
        "test_auroc": test["auroc"],
        "test_auroc_interval": [test["auroc_low"], test["auroc_high"]],
        "test_pair_accuracy": test["pair_accuracy"],
        "test_length_auroc": test["length_auroc"],
        "shuffled_labels_auroc": card.metrics["shuffled_labels"]["mean_auroc"],
        "std_R": card.calibration.std_R,
        "std_S": card.calibration.std_S,
    }
