"""`candor probe report`: a probe's quality as one self-contained HTML page.

The page is made from `card.json` and `report.json` alone, as `candor probe train` wrote them: no
model is loaded and nothing is measured here. It quotes test rows of the training data, so it may be
shared with the same people as that data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from candor.flags import UsageError
from candor.jobs.probe.figures import layer_curve, reliability, score_distributions, transfer
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import replacing
from candor.probes import jsonl
from candor.probes.artifact import ArtifactError, load
from candor.probes.card import Card

BLUE, ORANGE = (0, 114, 178), (213, 94, 0)
CONTEXT_CHARS = 600


@command
def report(probe: Path, *, out: Path | None = None) -> Exit:
    """Write a probe's report as one self-contained HTML page.

    Parameters
    ----------
    probe
        Folder of a probe, a linear classifier on a reward model's activations, as candor probe
        train writes it: card.json, probe.safetensors and report.json.
    out
        The HTML page to write; by default report.html in the probe's folder.
    """
    try:
        card = load(probe).card
        found = read_report(probe / "report.json")
        html = page(card, found)
    except ArtifactError as error:
        raise UsageError(str(error)) from error
    except (KeyError, TypeError, IndexError) as error:
        raise UsageError(
            f"{probe / 'report.json'} is not as this version of Candor writes it ({error!r}): "
            "train again"
        ) from None
    target = out or probe / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        file.write(html.encode("utf-8", "replace"))
    print(json.dumps({"name": card.name, "report": str(target)}))
    return Exit.DONE


def read_report(path: Path) -> dict[str, Any]:
    """The report beside the card.

    Raises:
        UsageError: the file does not exist or is not a JSON object.
    """
    try:
        found = jsonl.document(path)
    except FileNotFoundError:
        raise UsageError(
            f"no {path.name} in {path.parent}: `candor probe train` writes it"
        ) from None
    except ValueError as error:
        raise UsageError(f"{path} is {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is not a JSON object")
    return found


def page(card: Card, report: Mapping[str, Any]) -> str:
    """The page as HTML.

    Raises:
        KeyError: the report lacks a part.
    """
    examples = list(report["examples"])
    logits = [abs(token["logit"]) for example in examples for token in example["tokens"]]
    largest = max(logits, default=0.0) or 1.0
    shows_transfer = any(entry["auroc"] is not None for entry in report["transfer"])
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "pages"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.globals.update(number=_number, percent=_percent, colour=colour)
    return environment.get_template("probe.html.j2").render(
        card=card,
        report=report,
        warnings=list(warnings(report)),
        layer_curve=layer_curve(report["sweep"], report["chosen"]),
        transfer_plot=transfer(report["kinds"], report["transfer"]) if shows_transfer else None,
        kinds=_kinds(report),
        distributions=score_distributions(report["scores"]),
        reliability=reliability(report["reliability"]),
        largest=largest,
        examples=[_example(example, largest) for example in examples],
        facts=list(_facts(card)),
    )


def warnings(report: Mapping[str, Any]) -> Iterator[str]:
    """Warnings about the numbers, by rules of thumb rather than tests of significance."""
    controls, overall = report["controls"], report["metrics"]["test"]
    if controls["length_auroc"] is not None and controls["length_auroc"] > 0.65:
        yield "Length alone tells the labels apart: the probe may have learnt length."
    if controls["shuffled_max_auroc"] >= overall["auroc"]:
        yield "A fit on shuffled labels did as well as the probe: there is little or no signal."
    weak = [
        entry["kind"]
        for entry in report["transfer"]
        if entry["auroc_low"] is not None and entry["auroc_low"] <= 0.5
    ]
    if weak:
        yield (
            "A probe fitted without the kind is not clearly above chance on: "
            + ", ".join(weak)
            + ". Do not trust S on kinds of text that the probe was not fitted on."
        )
    agreement = report["genuine_agreement"]
    if agreement and agreement["fpr"] > 0.1:
        yield "It flags much genuine agreement: a penalty also hits replies that rightly agree."


def colour(logit: float) -> str:
    """A CSS colour from blue (-1) over white (0) to orange (1)."""
    share = min(1.0, abs(logit)) * 0.75
    end = ORANGE if logit > 0 else BLUE
    return "#" + "".join(f"{round(255 + (part - 255) * share):02x}" for part in end)


def _kinds(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    held_out = {entry["kind"]: entry for entry in report["transfer"] if entry["auroc"] is not None}
    return [
        {
            "kind": entry["kind"],
            "num_rows": entry["num_rows"],
            "num_groups": entry["num_groups"],
            "seen": entry,
            "held_out": held_out.get(entry["kind"]),
        }
        for entry in report["kinds"]
    ]


def _example(example: Mapping[str, Any], largest: float) -> dict[str, Any]:
    context = example["context"]
    if len(context) > CONTEXT_CHARS:
        context = context[:CONTEXT_CHARS] + " …"
    tokens = [{**token, "colour": colour(token["logit"] / largest)} for token in example["tokens"]]
    return {**example, "context": context, "tokens": tokens}


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    calibration = card.calibration
    yield "model weights (sha256)", card.model.weights_sha256
    yield "chat template (sha256)", card.template_sha256
    bound = card.bound.model_dump(exclude_none=True)
    yield "bound", ", ".join(f"{name} {value}" for name, value in bound.items())
    yield "std(R), std(S) within prompt", f"{calibration.std_R:.4g}, {calibration.std_S:.4g}"
    yield "lambda at kappa 1", f"{calibration.std_R / calibration.std_S:.4g} reward units per logit"
    yield (
        "calibrated on",
        f"{calibration.num_responses} responses to {calibration.num_prompts} prompts: "
        f"{calibration.source}",
    )
    quantiles = ", ".join(f"{name} {value:.3g}" for name, value in calibration.percentiles.items())
    yield "percentiles of S", quantiles
    kinds = ", ".join(f"{kind or '(no kind)'} {count}" for kind, count in card.data.kinds.items())
    yield "data", f"{card.data.num_rows} rows in {card.data.num_groups} groups: {kinds}"
    yield "data sha256", card.data.sha256
    yield "made", f"{card.created}, " + ", ".join(f"{k} {v}" for k, v in card.versions.items())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"
