"""The README of a probe's repository on the Hub: what its card says, for people.

Every number comes from the card; what the card does not have is left out or said to be unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from candor.probes.artifact import LoadedProbe
from candor.probes.card import Card
from candor.scoring.caveats import caveats

TABLES = (
    ("test", "test rows"),
    ("words", "control: a bag of words of the response"),
)
"""Parts of a card's metrics that are one AUROC each, and what the table calls them."""


def model_card(loaded: LoadedProbe, repository: str, base_model: str | None = None) -> str:
    """The README, with the Hub's metadata at its top.

    Args:
        repository: org/name, for the commands that the README shows.
        base_model: the reward model's name on the Hub.
    """
    card = loaded.card
    base = base_model or (card.model.id if re.fullmatch(r"[\w.-]+/[\w.-]+", card.model.id) else "")
    lines = [
        *_metadata(card, base),
        f"# {card.name}: a linear probe on a reward model",
        "",
        f"{card.trait} The probe's score S is a logit that a [Candor](https://pypi.org/project/"
        "candor-rewards/) server reads from the reward model's own activations: the higher S, the "
        "more of the trait. The server answers `reward = R - lambda * bound(S)`.",
        "",
        "```bash",
        f"candor serve --model {base or 'MODEL'} --probe {repository}@COMMIT --kappa {card.name}=1",
        "```",
        "",
        "The probe fits these weights and this chat template only; a server refuses it on others.",
        "",
        "| what | value |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in _facts(loaded)),
        "",
        "## How well it ranks",
        "",
        *_ranking(card.metrics),
        "",
        "## What speaks against using it as it is",
        "",
        *([f"- {caveat.message}" for caveat in caveats(card)] or ["Its card names nothing."]),
        "",
        "The numbers are those of `card.json` beside this file, which `candor probe train` and "
        "`candor probe calibrate` wrote. No figure was added by hand.",
    ]
    return "\n".join(lines) + "\n"


def _metadata(card: Card, base_model: str) -> Iterator[str]:
    yield "---"
    yield "library_name: candor"
    if base_model:
        yield f"base_model: {base_model}"
    yield "tags:"
    for tag in ("candor", "linear-probe", "reward-model", "rlhf"):
        yield f"- {tag}"
    yield "---"
    yield ""


def _facts(loaded: LoadedProbe) -> Iterator[tuple[str, Any]]:
    card, calibration = loaded.card, loaded.card.calibration
    yield "reward model", f"`{card.model.id}`, weights sha256 `{card.model.weights_sha256[:12]}`"
    yield "chat template", f"sha256 `{card.template_sha256[:12]}`"
    yield "layer", f"{card.layer} of {card.model.num_layers} (0 is the embeddings)"
    yield "pooling", card.pooling
    bound = card.bound.model_dump(exclude_none=True)
    kind = bound.pop("kind")
    yield "bound", ", ".join([kind, *(f"{name} {value:.3f}" for name, value in bound.items())])
    yield "std(R), within a prompt", f"{calibration.std_R:.3f}"
    yield "std(S), within a prompt", f"{calibration.std_S:.3f} logits"
    if calibration.std_bounded_S is not None:
        yield "std(bound(S)), within a prompt", f"{calibration.std_bounded_S:.3f} logits"
    yield (
        "calibrated on",
        f"{calibration.num_responses} responses to {calibration.num_prompts} prompts",
    )
    yield "fitted on", f"{card.data.num_rows} rows in {card.data.num_groups} groups"
    yield "probe", f"version {card.version}, sha256 `{loaded.sha256[:12]}`, {card.created[:10]}"


def _ranking(metrics: Mapping[str, Any]) -> Iterator[str]:
    """AUROCs with 95 % intervals over split groups, the probe's and the controls'."""
    found = [
        (name, metrics[part])
        for part, name in TABLES
        if isinstance(metrics.get(part), Mapping) and "auroc" in metrics[part]
    ]
    if not found:
        yield "The card has no measurement on test rows."
        return
    yield "| | AUROC | AUROC among the responses to one prompt |"
    yield "| --- | --- | --- |"
    for name, values in found:
        yield f"| {name} | {_auroc(values, 'auroc')} | {_auroc(values, 'within_prompt_auroc')} |"
    test = metrics.get("test") or {}
    if "length_auroc" in test:
        within = _auroc({"a": test.get("length_within_prompt_auroc")}, "a")
        yield f"| control: length of the response | {test['length_auroc']:.3f} | {within} |"
    shuffled = metrics.get("shuffled_labels")
    if isinstance(shuffled, Mapping) and "mean_auroc" in shuffled:
        yield (
            f"| control: fits on shuffled labels, mean of {shuffled.get('permutations')} "
            f"(validation rows) | {shuffled['mean_auroc']:.3f} | |"
        )
    yield ""
    yield "Brackets: 95 % intervals over groups of rows. Best-of-N and GRPO use the second column."


def _auroc(values: Mapping[str, Any], name: str) -> str:
    if values.get(name) is None:
        return "unknown"
    low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{values[name]:.3f}{interval}"
