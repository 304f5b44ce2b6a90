"""`candor probe train`: labelled responses and a reward model -> a probe, its card and a report.

The steps: rows -> token ids -> one pass over the reward model, all layers, kept on disk -> layer,
method, C and pooling chosen on the validation groups -> controls -> the test groups, once, and with
changed responses -> bound and calibration -> artefact. The pass takes most of the time; with
`--cache` it is made once.

Progress goes to stderr; the last line of stdout is one JSON object with the main numbers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from candor.flags import UsageError
from candor.jobs.compare.words import WORDS_FILE
from candor.jobs.probe.material import parse_layers, read_data, tokenise
from candor.jobs.probe.measure import CHOSEN_FIELDS, setting_of
from candor.jobs.probe.reader import RowReader
from candor.jobs.probe.training.fit import fit_probe, selection
from candor.jobs.probe.training.options import TrainOptions
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import write_json
from candor.jobs.running.progress import say
from candor.models.load import load_reward_model
from candor.probes import artifact
from candor.probes.card import Card
from candor.probes.fitting.select import Candidate
from candor.probes.probe import Probe
from candor.scoring.caveats import caveats

MEASURED_FIELDS = ("train_auroc", "validation_auroc", "validation_ranking", "transfer_ranking")
SWEEP_FIELDS = (*CHOSEN_FIELDS, *MEASURED_FIELDS)


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
