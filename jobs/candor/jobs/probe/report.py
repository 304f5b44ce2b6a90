"""`candor probe report`: a probe's quality as one self-contained HTML page.

The page is made from `card.json` and `report.json` alone, as `candor probe train` wrote them: no
model is loaded and nothing is measured here. Every readable card has a page. A part that an older
version did not write, or whose `report.json` is not there, says that it is not on the card. The
page quotes test rows of the training data, so it may be shared with the same people as that data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from candor.flags import UsageError
from candor.jobs.probe.figures import layer_curve, reliability, score_distributions, transfer
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import replacing
from candor.page.groups import probe_of
from candor.page.plots import Plot
from candor.page.render import render
from candor.probes import jsonl
from candor.probes.artifact import ArtifactError, load
from candor.probes.card import Card
from candor.probes.fitting.calibrate import lambda_of
from candor.scoring.caveats import caveats

T = TypeVar("T")

CONTEXT_CHARS = 600
FLAGGED = ("direction", "num_rows", "num_groups", "flagged", "low", "high", "caught")
SEEN_FIELDS = ("auroc", "auroc_low", "auroc_high", "tpr_at_1_fpr")


@command
def report(probe: Path, *, out: Path | None = None) -> Exit:
    """Write a probe's report as one self-contained HTML page.

    Parameters
    ----------
    probe
        Folder of a probe, a linear classifier on a reward model's activations, as candor probe
        train writes it: card.json, probe.safetensors and report.json. Without report.json, or with
        one of an earlier version, the page says which parts are not on the card.
    out
        The HTML page to write; by default report.html in the probe's folder.
    """
    try:
        card = load(probe).card
    except ArtifactError as error:
        raise UsageError(str(error)) from error
    html = page(card, read_report(probe / "report.json"))
    target = out or probe / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        file.write(html.encode("utf-8", "replace"))
    print(json.dumps({"name": card.name, "report": str(target)}))
    return Exit.DONE


def read_report(path: Path) -> dict[str, Any]:
    """The report beside the card; empty where there is none.

    Raises:
        UsageError: the file is not a JSON object.
    """
    try:
        found = jsonl.document(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"{path} is {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is not a JSON object")
    return found


def page(card: Card, report: Mapping[str, Any]) -> str:
    """The page as HTML."""
    plots = {
        name: found
        for name, build in {
            "layers": lambda: layer_curve(report["sweep"], {"layer": card.layer}),
            "transfer": lambda: _transfer_plot(report),
            "scores": lambda: score_distributions(report["scores"]),
            "reliability": lambda: reliability(report["reliability"]),
        }.items()
        if (found := part(build)) is not None
    }
    examples = part(lambda: [_example(one, card.name) for one in report["examples"]]) or []
    return render(
        Path(__file__).parent / "pages" / "probe.html.j2",
        data={"plots": plots, "examples": examples, "probe": {"name": card.name, **probe_of(card)}},
        data_plots=frozenset(plots),
        number=_number,
        percent=_percent,
        card=card,
        chosen={"method": None, "C": None}
        | (part(lambda: dict(card.metrics["fit"])) or {})
        | (part(lambda: dict(report["chosen"])) or {}),
        overall=part(lambda: _overall(card.metrics["test"])),
        warnings=list(warnings(card, report)),
        kinds=part(lambda: _kinds(report)),
        agreement=part(
            lambda: {name: report["genuine_agreement"][name] for name in ("tpr", "fpr", "num_rows")}
        ),
        flagged=part(lambda: [{name: one[name] for name in FLAGGED} for one in report["flagged"]]),
        controls=controls(card, report),
        long_texts=part(lambda: _long_texts(report["long_texts"])),
        telltale=part(lambda: _telltale(report["telltale"])),
        examples=examples,
        facts=list(_facts(card)),
    )


def part(build: Callable[[], T]) -> T | None:
    """A part of the page; None where the card and the report lack what it is made of."""
    try:
        return build()
    except (KeyError, TypeError, IndexError, AttributeError, ValueError):
        return None


def controls(card: Card, report: Mapping[str, Any]) -> dict[str, float | None]:
    """AUROCs of the controls: the report's, or else the card's; None where neither has one."""
    found = part(lambda: dict(report["controls"])) or {}
    shuffled = part(lambda: dict(card.metrics["shuffled_labels"])) or {}
    words = part(lambda: dict(card.metrics["words"])) or {}
    return {
        "length_auroc": found.get(
            "length_auroc", part(lambda: card.metrics["test"]["length_auroc"])
        ),
        "length_within_prompt_auroc": found.get(
            "length_within_prompt_auroc",
            part(lambda: card.metrics["test"]["length_within_prompt_auroc"]),
        ),
        "shuffled_mean_auroc": found.get("shuffled_mean_auroc", shuffled.get("mean_auroc")),
        "shuffled_max_auroc": found.get("shuffled_max_auroc", shuffled.get("max_auroc")),
        "words_auroc": words.get("auroc"),
        "words_within_prompt_auroc": words.get("within_prompt_auroc"),
    }


def warnings(card: Card, report: Mapping[str, Any]) -> Iterator[str]:
    """Warnings about the numbers, by rules of thumb rather than tests of significance. A rule whose
    numbers are not there says nothing."""
    yield from (caveat.message for caveat in caveats(card))
    control = controls(card, report)
    lengths = (control["length_auroc"], control["length_within_prompt_auroc"])
    if max(value or 0.0 for value in lengths) > 0.65:
        yield "Length alone tells the labels apart: the probe may have learnt length."
    yield from _no_better_than_words(card)
    overall = part(lambda: float(report["metrics"]["test"]["auroc"])) or part(
        lambda: float(card.metrics["test"]["auroc"])
    )
    if overall is not None and (control["shuffled_max_auroc"] or 0.0) >= overall:
        yield "A fit on shuffled labels did as well as the probe: there is little or no signal."
    weak = part(
        lambda: [
            entry["kind"]
            for entry in report["transfer"]
            if entry["auroc_low"] is not None and entry["auroc_low"] <= 0.5
        ]
    )
    if weak:
        yield (
            "A probe fitted without the kind is not clearly above chance on: "
            + ", ".join(weak)
            + ". Do not trust S on kinds of text that the probe was not fitted on."
        )
    if (part(lambda: float(report["genuine_agreement"]["fpr"])) or 0.0) > 0.1:
        yield "It flags much genuine agreement: a penalty also hits replies that rightly agree."
    often = part(lambda: [one["direction"] for one in report["flagged"] if one["flagged"] > 0.1])
    if often:
        yield (
            "It flags more than a tenth of the responses without the trait to prompts of direction "
            + ", ".join(often)
            + ": a penalty also hits those."
        )


def _no_better_than_words(card: Card) -> Iterator[str]:
    """By the AUROC within a prompt, or over all rows where that is not on the card."""
    for name in ("within_prompt_auroc", "auroc"):
        found = part(lambda: [float(card.metrics[one][name]) for one in ("test", "words")])  # noqa: B023
        if found is not None:
            if found[1] >= found[0]:
                yield (
                    "A bag of the response's words, which sees no activation, does as well as the "
                    "probe: on data like this a word list is enough."
                )
            return


def _overall(test: Mapping[str, Any]) -> dict[str, float | None]:
    names = (
        "auroc", "auroc_low", "auroc_high", "within_prompt_auroc", "within_prompt_auroc_low",
        "within_prompt_auroc_high", "num_rows",
    )  # fmt: skip
    return {"auroc": test["auroc"], **{name: test.get(name) for name in names[1:]}}


def _transfer_plot(report: Mapping[str, Any]) -> Plot | None:
    for entries in (report["kinds"], report["transfer"]):
        if not any(entry["auroc"] is not None for entry in entries):
            return None
    return transfer(report["kinds"], report["transfer"])


def _kinds(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    held_out = {
        entry["kind"]: entry for entry in report.get("transfer", ()) if entry["auroc"] is not None
    }
    return [
        {
            "kind": entry["kind"],
            "num_rows": entry["num_rows"],
            "num_groups": entry["num_groups"],
            "seen": {name: entry[name] for name in SEEN_FIELDS}
            | {"within_prompt_auroc": entry.get("within_prompt_auroc")},
            "held_out": held_out.get(entry["kind"]),
        }
        for entry in report["kinds"]
    ]


def _long_texts(found: Mapping[str, Any]) -> dict[str, Any]:
    """The table of AUROCs by length and pooling; a field `error` in place of it where the test
    failed."""
    if "error" in found:
        return {"error": found["error"]}
    return {
        **{name: found[name] for name in ("num_rows", "num_left_out")},
        "poolings": list(found["lengths"][0]["poolings"]),
        "lengths": [
            {name: length[name] for name in ("factor", "mean_tokens", "poolings")}
            for length in found["lengths"]
        ],
    }


def _telltale(found: Mapping[str, Any]) -> dict[str, Any]:
    """The AUROCs with and without the words, and the words."""
    if "error" in found:
        return {"error": found["error"]}
    names = ("num_rows", "num_left_out", "words", "control_words", "arms")
    return {name: found[name] for name in names}


def _example(example: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One test row as the page's script takes a scored response."""
    context = example["context"]
    if len(context) > CONTEXT_CHARS:
        context = context[:CONTEXT_CHARS] + " …"
    shown = {name: example[name] for name in ("kind", "label", "score")}
    tokens, start = [], 0
    for token in example["tokens"]:
        end = start + len(token["text"])
        tokens.append({"start": start, "end": end, "probes": {name: float(token["logit"])}})
        start = end
    text = "".join(token["text"] for token in example["tokens"])
    probes = {name: {"score": float(example["score"])}}
    return {**shown, "context": context, "text": text, "tokens": tokens, "probes": probes}


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    calibration = card.calibration
    yield "model weights (sha256)", card.model.weights_sha256
    yield "chat template (sha256)", card.template_sha256
    bound = card.bound.model_dump(exclude_none=True)
    yield "bound", ", ".join(f"{name} {value}" for name, value in bound.items())
    bounded = calibration.std_bounded_S
    yield (
        "std(R), std(S), std(bound(S)) within prompt",
        f"{calibration.std_R:.4g}, {calibration.std_S:.4g}, "
        + ("not on the card" if bounded is None else f"{bounded:.4g}"),
    )
    yield "lambda at kappa 1", f"{lambda_of(1.0, calibration):.4g} reward units per logit"
    yield (
        "calibrated on",
        f"{calibration.num_responses} responses to {calibration.num_prompts} prompts: "
        f"{calibration.source}",
    )
    yield "can raise the reward", "yes" if card.bound.build().can_raise_reward else "no"
    quantiles = ", ".join(f"{name} {value:.3g}" for name, value in calibration.percentiles.items())
    yield "percentiles of S", quantiles
    kinds = ", ".join(f"{kind or '(no kind)'} {count}" for kind, count in card.data.kinds.items())
    yield "data", f"{card.data.num_rows} rows in {card.data.num_groups} groups: {kinds}"
    yield "data sha256", card.data.sha256
    yield "made", f"{card.created}, " + ", ".join(f"{k} {v}" for k, v in card.versions.items())


def _number(value: float | None, absent: str = "–") -> str:
    return absent if value is None else f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"
