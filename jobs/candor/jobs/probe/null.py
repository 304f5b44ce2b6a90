"""`candor probe null`: probes that know nothing, made like a real one, to be served beside it.

A penalty with such a probe is a null arm: whatever it does to a figure, a penalty of that strength
does without knowing the trait. The kinds:

| kind | weights |
| --- | --- |
| random-direction | a random direction among the activations |
| shuffled-labels | fitted as the real probe was, on its rows with shuffled labels |

**Random direction.** A normal draw for each dimension, divided by the spread of that dimension over
the candidates. That is a direction without preference in the space in which probes are fitted,
whose dimensions are standardised. A draw on the raw activations would read little else than the few
dimensions of a residual stream that are a hundred times larger than the rest, and a draw with the
activations' covariance would do so even more. S is scaled and shifted so that its mean and spread
over the candidates are the real probe's.

**Shuffled labels.** Method, C, layer, split and held-out kinds are the real probe's. Labels are
permuted among the training rows of one kind, whatever their prompt. So the fit sees as many ones in
each kind, and neither the prompt nor the response tells which. (Shuffling within a prompt would
leave most labels as they are, because most prompts have one label, and the fit would still learn
which prompts have an opinion.)

Layer and pooling are the real probe's. The bound is of its kind; with a hinge, as large a share of
the candidates lies below it as below the real one. The calibration is the null probe's own on the
same candidates, so a kappa means the same for all of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.probe.candidates import TokenisedCandidates, read_candidates, source_of
from candor.jobs.probe.material import LabelledRows, read_data, tokenise
from candor.jobs.probe.reader import RowReader
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.manifest import now
from candor.probes import artifact
from candor.probes.artifact import LoadedProbe
from candor.probes.card import Card, DataInfo
from candor.probes.fitting.activations import LayerActivations
from candor.probes.fitting.calibrate import HINGE_PERCENTILE, calibrate, fit_bound
from candor.probes.fitting.collect import Floats
from candor.probes.fitting.data import data_sha256
from candor.probes.fitting.fit import Ints, fit
from candor.probes.probe import Probe
from candor.probes.sources.repositories import load_probe

NullKind = Literal["random-direction", "shuffled-labels"]

ABOUT: dict[NullKind, str] = {
    "random-direction": "Nothing: a null probe with a random direction.",
    "shuffled-labels": "Nothing: a null probe, fitted on shuffled labels.",
}


@Parameter(name="*")
@dataclass(frozen=True)
class NullOptions:
    """The options of `candor probe null`."""

    probe: Path
    """Folder of the real probe."""
    _: KW_ONLY
    out: Path
    """Folder to write: one probe folder per null probe, named KIND-0, KIND-1, ..."""
    kind: NullKind
    """random-direction: a random direction among the activations. shuffled-labels: fitted as the
    real probe was, on labels shuffled among the rows of each kind."""
    count: int = 8
    """How many null probes; several seeds show what chance alone does."""
    rollouts: Path
    """JSONL written by `candor generate`: the candidates that bound and calibration are measured
    on. Give those that the real probe was calibrated on."""
    model: str
    """The reward model: a folder or a Hugging Face name."""
    data: Annotated[list[Path] | None, Parameter(negative="")] = None
    """The labelled rows that the real probe was fitted on, for shuffled-labels. May be repeated."""
    seed: int = 0
    """Seed of the directions, or of the shuffling."""
    device: str = "auto"
    """Device of the reward model; auto is CUDA where there is a GPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the reward model; give the format in which the probe is served."""


@dataclass(frozen=True)
class OnePass:
    """One layer of the candidates and, after them, of the labelled rows.

    Attributes:
        activations: of both.
        rewards, contexts: R and context of each candidate, n.
        source: where the candidates come from, for the cards.
    """

    activations: LayerActivations
    rewards: Floats
    contexts: Sequence[str]
    source: str

    @property
    def num_candidates(self) -> int:
        return len(self.contexts)

    def scores(self, weights: Floats, biases: Floats, probe: Probe) -> Floats:
        """S of every candidate under m probes that pool as `probe` does: [m, n]."""
        return self.activations.scores(weights, biases, range(self.num_candidates), probe.pooling)

    def real_scores(self, probe: Probe) -> Floats:
        """S of every candidate, [n]."""
        weight = probe.weight.detach().cpu().numpy()[None]
        found: Floats = self.scores(weight, np.array([probe.bias], dtype=np.float32), probe)[0]
        return found


@command
def null_probes(options: NullOptions) -> Exit:
    """Write probes that know nothing, as controls for a real one.

    Serve them beside the real probe, with lambda 0: their S comes back in "probes" of each
    response, and `candor bon --target` takes them as null arms.
    """
    if options.count < 1:
        raise UsageError(f"--count {options.count}: must be at least 1")
    if (options.data is None) != (options.kind == "random-direction"):
        raise UsageError(
            "--kind shuffled-labels needs the --data that the probe was fitted on, and "
            "random-direction reads no labels"
        )
    try:
        loaded = load_probe(options.probe)
        labelled = None if options.data is None else rows_of(options.data, loaded.card)
        found = read_candidates(
            options.rollouts, options.model, loaded.card, options.device, options.dtype
        )
        here = one_pass(found, labelled, loaded.probe.layer, source_of(options.rollouts))
        weights, biases = (
            directions(here, loaded.probe, options.count, options.seed)
            if labelled is None
            else shuffled(here, labelled, loaded.card, options.count, options.seed)
        )
        saved = list(write(options, loaded, here, weights, biases))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if found.num_left_out:
        print(
            f"candor: left out: {found.num_left_out} rows or responses without a score",
            file=sys.stderr,
        )
    told = {"out": str(options.out), "kind": options.kind, "of": loaded.card.name, "probes": saved}
    print(json.dumps(told, allow_nan=False))
    return Exit.DONE


def rows_of(data: Sequence[Path], card: Card) -> LabelledRows:
    """The rows that the card's probe was fitted on, split as they were then.

    Raises:
        ValueError: the rows are not those of the card, or the card does not say how the probe was
            fitted.
    """
    made: Any = card.metrics.get("fit")
    if not isinstance(made, dict) or not {"method", "C", "seed", "held_out_kinds"} <= set(made):
        raise ValueError(
            f"the card of {card.name!r} does not say how the probe was fitted; train it with "
            "`candor probe train`"
        )
    rows = read_data(data, made["seed"], made["held_out_kinds"])
    if (sha256 := data_sha256(rows.rows)) != card.data.sha256:
        raise ValueError(
            f"--data: these rows (sha256 {sha256[:12]}) are not those that {card.name!r} was "
            f"fitted on ({card.data.sha256[:12]})"
        )
    return rows


def one_pass(
    found: TokenisedCandidates, labelled: LabelledRows | None, layer: int, source: str
) -> OnePass:
    """One pass over the candidates and the labelled rows. The file of activations is unlinked, and
    lives as long as it is mapped.

    Raises:
        ValueError: no candidate can be scored, the server would refuse a row, or activations are
            not finite.
    """
    if not found.items:
        raise ValueError("no candidate can be scored, so there is nothing to calibrate on")
    sequences: list[tuple[Sequence[int], int, int]] = [
        (item.token_ids, item.response_start, item.response_end) for item in found.items
    ]
    names = [f"candidate {place}" for place in range(len(sequences))]
    if labelled is not None:
        sequences += tokenise(labelled.rows, found.rm, labelled.places)
        names += labelled.places
    with tempfile.TemporaryDirectory() as folder:
        read = RowReader(found.rm).layers(sequences, [layer], Path(folder), names)
        rewards = read.rewards[: len(found.items)]
        return OnePass(read.read(layer), rewards, found.contexts, source)


def directions(here: OnePass, probe: Probe, count: int, seed: int) -> tuple[Floats, Floats]:
    """`count` random directions whose S has the mean and the spread of the real probe's.

    Returns:
        weights [count, d] and biases [count], float32.
    """
    spread = here.activations.means[: here.num_candidates].std(axis=0, dtype=np.float64)
    draws = np.random.default_rng(seed).normal(size=(count, len(spread)))
    raw = np.divide(draws, spread, out=np.zeros_like(draws), where=spread > 0)
    no_bias = np.zeros(count, dtype=np.float32)
    own = here.scores(raw.astype(np.float32), no_bias, probe).astype(np.float64)
    real = here.real_scores(probe).astype(np.float64)
    scale = real.std() / own.std(axis=1)
    biases = real.mean() - scale * own.mean(axis=1)
    return (raw * scale[:, None]).astype(np.float32), biases.astype(np.float32)


def shuffled(
    here: OnePass, labelled: LabelledRows, card: Card, count: int, seed: int
) -> tuple[Floats, Floats]:
    """`count` fits on shuffled labels, else as the card's probe was fitted.

    Returns:
        weights [count, d] and biases [count], float32.
    """
    made, train = card.metrics["fit"], list(labelled.labelled.train)
    kinds = [labelled.rows[index].kind for index in train]
    means = here.activations.means[here.num_candidates :][train]
    fits = [
        fit(
            made["method"],
            means,
            within_kinds(labelled.labels[train], kinds, np.random.default_rng([seed, number])),
            C=made["C"],
            seed=made["seed"],
        )
        for number in range(count)
    ]
    weights, biases = zip(*fits, strict=True)
    return np.stack(weights), np.array(biases, dtype=np.float32)


def within_kinds(labels: Ints, kinds: Sequence[str], rng: np.random.Generator) -> Ints:
    """The labels, permuted among the rows of each kind."""
    found = labels.copy()
    of_kind = np.array(kinds)
    for kind in dict.fromkeys(kinds):
        rows = np.flatnonzero(of_kind == kind)
        found[rows] = labels[rng.permutation(rows)]
    return found


def write(
    options: NullOptions, loaded: LoadedProbe, here: OnePass, weights: Floats, biases: Floats
) -> Iterator[str]:
    """Saves every null probe with bound and calibration of its own; yields the folders.

    Raises:
        ValueError: S or bound(S) of a null probe does not vary within any prompt.
    """
    real, bound = loaded.probe, loaded.card.bound
    below = HINGE_PERCENTILE
    if bound.reference is not None:
        below = 100.0 * float(np.mean(here.real_scores(real) <= bound.reference))
    for number, scores in enumerate(here.scores(weights, biases, real)):
        name = f"{options.kind}-{number}"
        spec = fit_bound(bound.kind, scores, scores, hinge_percentile=below)
        card = loaded.card.model_copy(
            update={
                "name": name,
                "trait": ABOUT[options.kind],
                "bound": spec,
                "calibration": calibrate(
                    here.rewards, scores, here.contexts, bound=spec, source=here.source
                ),
                "metrics": {
                    "null": {"kind": options.kind, "of": loaded.card.name, "seed": options.seed}
                },
                "data": loaded.card.data
                if options.kind == "shuffled-labels"
                else DataInfo(sha256="", num_rows=0, num_groups=0, kinds={}),
                "created": now(),
            }
        )
        weight = torch.from_numpy(weights[number])
        artifact.save(
            options.out / name,
            Probe(name, weight, float(biases[number]), real.layer, real.pooling),
            card,
        )
        yield str(options.out / name)
