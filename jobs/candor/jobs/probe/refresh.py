"""`candor probe refresh`: a new version of a probe, fitted on judged rows together with old ones.

A policy that is trained against a probe moves to where the probe is wrong, so the rows that say
most are the policy's own, judged during the run: `GET /v1/labels/rows`, the file of `candor serve
--label-spool`, or `labels.jsonl` of `candor rl`. Without old rows the new probe would forget what
the policy does not write any more, so by default as many old rows as judged ones are drawn.

The fit, the choice, the test and the card are those of `candor probe train`, on rows that are split
anew. Layer and pooling stay, so that the new version can be compared with the old one on the same
activations; the last line of stdout has both AUROCs within prompts, on judged rows that were drawn
at random and are in the test part.
"""

from __future__ import annotations

import json
import random
import tempfile
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter

from candor.flags import UsageError, read_server_key
from candor.jobs.probe.handover import hand_over
from candor.jobs.probe.material import LabelledRows, parse_layers, read_data, tokenise
from candor.jobs.probe.reader import RowReader
from candor.jobs.probe.train import headline, write
from candor.jobs.probe.training.fit import Trained, fit_probe
from candor.jobs.probe.training.options import TrainOptions
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.progress import say
from candor.models.load import RewardModel, load_reward_model
from candor.probes import jsonl
from candor.probes.artifact import LoadedProbe
from candor.probes.card import Lineage
from candor.probes.fitting.data import Row, data_sha256, labelled_row, load_files
from candor.probes.fitting.fit import METHODS, Floats, Method
from candor.probes.probe import Pooling
from candor.probes.sources.repositories import load_probe
from candor.probes.sources.tables import objects
from candor.probes.within import prompt_auroc

JUDGED = "judged"
"""`kind` of the judged rows among the others."""

ROWS_FILE = "rows.jsonl"

MIN_GROUPS = 5
"""Fewest groups that are drawn of a kind: with fewer, a part of the split may lack one."""


@Parameter(name="*")
@dataclass(frozen=True)
class RefreshOptions:
    """The options of `candor probe refresh`."""

    probe: Path
    """Folder of the probe to refresh."""
    _: KW_ONLY
    labels: Annotated[list[Path], Parameter(negative="")]
    """JSONL of judged rows: as GET /v1/labels/rows gives them, or plain labelled rows. May be
    repeated."""
    data: Annotated[list[Path] | None, Parameter(negative="")] = None
    """JSONL of labelled rows that the probe was trained on; rows of their test split are left out.
    May be repeated. Without it the probe is fitted on the judged rows alone."""
    data_rows: int | None = None
    """Number of old rows to draw, by whole groups. Default: as many as there are judged rows."""
    model: str
    """The reward model: a folder or a Hugging Face name."""
    out: Path
    """Folder to write: probe.safetensors, card.json, report.json, rows.jsonl."""
    layers: str | None = None
    """Hidden states to try, as in candor probe train. Default: the probe's own layer."""
    pooling: Pooling | Literal["all"] | None = None
    """How token logits become one score. Default: the probe's own pooling."""
    seed: int = 0
    """Seed of the draw, the split and the intervals."""
    device: str = "auto"
    """Device of the reward model; auto is CUDA where there is a GPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the reward model; give the format in which the probe is served."""
    reward_url: str | None = None
    """Address of a server that serves the old version: the new one is handed over to it."""
    operator_key_file: Path | None = None
    """File that holds that server's operator key, or its API key where it has no other. Default:
    the key in CANDOR_API_KEY."""


@command
def refresh(options: RefreshOptions) -> Exit:
    """Fit a probe anew on judged rows and a share of the old ones, as its next version."""
    key = read_server_key("--operator-key-file", options.operator_key_file)
    try:
        old = load_probe(options.probe)
        judged, random_rows = read_judged(options.labels)
        rows = write_rows(options, judged)
        rm = load_model(options, old)
        trained, scores = fit_version(options, old, rows, rm)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    lineage = Lineage(
        version=old.card.version + 1,
        parent_sha256=old.sha256,
        labels_sha256=data_sha256(judged),
        num_labels=len(judged),
    )
    card = trained.card.model_copy(update={"lineage": lineage})
    write(options.out, trained.probe, card, trained.chosen, trained.candidates, trained.report)
    line = headline(options.out, card, trained.chosen)
    line |= {"version": card.version, "sha256": LoadedProbe(trained.probe, card).sha256}
    line |= compared(rows, random_rows, trained, scores)
    if options.reward_url is not None:
        line["served"] = hand_over(options.out, options.reward_url, key)
    print(json.dumps(line, allow_nan=False))
    return Exit.DONE


def read_judged(paths: list[Path]) -> tuple[list[Row], set[str]]:
    """The judged rows as labelled rows of the kind `JUDGED`, and the contexts of those that were
    drawn at random.

    Raises:
        ValueError: a line is not a row (message `file:line: field: reason`), or there is no line.
    """
    rows: list[Row] = []
    drawn: set[str] = set()
    for path in paths:
        for place, content in objects(path):
            judged = content.pop("judged", {})
            row = labelled_row(place, content)
            if not isinstance(judged, dict):
                raise ValueError(f"{place}: judged: is not an object")
            how = judged.get("drawn", "random")
            rows.append(row.model_copy(update={"kind": JUDGED, "split": None}))
            if how == "random":
                drawn.add(row.context)
    if not rows:
        raise ValueError(f"--labels {paths[0]}: no rows")
    return rows, drawn


def write_rows(options: RefreshOptions, judged: list[Row]) -> LabelledRows:
    """The rows of the fit, as OUT/rows.jsonl, and their split.

    Raises:
        ValueError: as `read_data`; `--data-rows` is negative.
    """
    old = [] if options.data is None else old_rows(options, len(judged))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / ROWS_FILE
    content = [
        {name: value for name, value in row.content().items() if value is not None}
        for row in [*judged, *old]
    ]
    path.write_bytes(b"".join(jsonl.line_of(row) + b"\n" for row in content))
    return read_data([path], options.seed)


def old_rows(options: RefreshOptions, num_judged: int) -> list[Row]:
    """Whole groups of the old rows at random, kind by kind in turn, until there are enough rows.
    Each kind has `MIN_GROUPS` all the same, because a kind is split into three parts."""
    wanted = num_judged if options.data_rows is None else options.data_rows
    if wanted < 0:
        raise ValueError(f"--data-rows {wanted}: must be at least 0")
    rows = [row for row in load_files(options.data or [])[0] if row.split != "test"]
    kinds: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        plain = row.model_copy(update={"split": None})
        kinds.setdefault(row.kind, {}).setdefault(row.group, []).append(plain)
    rng = random.Random(options.seed)
    waiting = [rng.sample(list(groups.values()), len(groups)) for groups in kinds.values()]
    found: list[Row] = []
    for turn in range(max(map(len, waiting), default=0)):
        for groups in waiting:
            if turn < len(groups) and (turn < MIN_GROUPS or len(found) < wanted) and wanted:
                found += groups[turn]
    return found


def load_model(options: RefreshOptions, old: LoadedProbe) -> RewardModel:
    """The reward model, which must be the one that the old probe was fitted on.

    Raises:
        ValueError: it is another, or it cannot be loaded.
    """
    dated = old.card.template_date
    say(f"loading the reward model {options.model}")
    rm = load_reward_model(
        options.model,
        device=options.device,
        dtype=options.dtype,
        template_date=None if dated is None else date.fromisoformat(dated),
    )
    rm.check_probe(old.card)
    return rm


def fit_version(
    options: RefreshOptions, old: LoadedProbe, rows: LabelledRows, rm: RewardModel
) -> tuple[Trained, Floats]:
    """The new probe with its card, and the old probe's S of every row."""
    fitted_by = old.card.metrics.get("fit", {}).get("method")
    method: Method = next((each for each in METHODS if each == fitted_by), "logistic")
    like_old = TrainOptions(
        data=[],
        model=options.model,
        out=options.out,
        name=old.card.name,
        trait=old.card.trait,
        layers=options.layers or str(old.card.layer),
        method=[method],
        pooling=options.pooling or old.card.pooling,
        bound=old.card.bound.kind,
        select="within",
        seed=options.seed,
    )
    with ExitStack() as on_exit:
        layers = parse_layers(like_old.layers, rm.num_layers)
        sequences = tokenise(rows.rows, rm, rows.places)
        folder = Path(on_exit.enter_context(tempfile.TemporaryDirectory()))
        read = sorted({*layers, old.card.layer})
        reader = RowReader(rm)
        activations = reader.layers(sequences, read, folder, rows.places)
        here = activations.read(old.card.layer)
        bias = np.array([old.probe.bias], dtype=np.float32)
        everything = list(range(len(rows.rows)))
        weight = old.probe.weight.numpy()[None]
        scores = here.scores(weight, bias, everything, old.card.pooling)[0]
        tried = replace(activations, layers=tuple(layers))
        trained = fit_probe(like_old, rows, reader, sequences, tried, "within")
    return trained, scores


def compared(rows: LabelledRows, drawn: set[str], trained: Trained, old: Floats) -> dict[str, Any]:
    """AUROC within prompts, mean over prompts, of the old and the new version on the judged prompts
    of the test part that were drawn at random; null where there is no such prompt."""
    prompts: dict[str, list[int]] = {}
    fitted_on = {*rows.split.train, *rows.split.validation}
    for index, row in enumerate(rows.rows):
        if index in fitted_on:
            continue
        if row.kind == JUDGED and row.context in drawn:
            prompts.setdefault(row.context, []).append(index)

    def mean(scores: Floats) -> float | None:
        found = [prompt_auroc(scores[each], rows.labels[each]) for each in prompts.values()]
        known = [value for value in found if value is not None]
        return float(np.mean(known)) if known else None

    return {
        "judged_within_prompt_auroc": mean(trained.scores),
        "judged_within_prompt_auroc_before": mean(old),
    }
