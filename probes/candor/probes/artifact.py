"""A probe on disk: a directory with `probe.safetensors` and `card.json`.

The card is written last, so a card means that the artefact is complete. No pickle and no code: two
tensors and one JSON file. `check` refuses a probe that was fitted on another model.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file

from candor.probes import jsonl
from candor.probes.card import CARD_VERSION, Card
from candor.probes.faults import first_fault
from candor.probes.identity import dated_sha256
from candor.probes.probe import Probe

WEIGHTS_FILE = "probe.safetensors"
CARD_FILE = "card.json"

NEWER_FIELDS = ("template_date", "lineage")
"""Fields of a card that are left out where they say nothing, because older Candors refuse them."""


class ArtifactError(ValueError):
    """The directory does not hold a complete, readable probe."""


class ProbeMismatch(ArtifactError):
    """The probe is complete but belongs to another model, template or version of Candor."""


@dataclass(frozen=True)
class LoadedProbe:
    """A probe and its card, read together."""

    probe: Probe
    card: Card

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights and of everything on the card that is not null: hex, 64 characters.

        It does not depend on how the files are written, so a probe keeps it over the network.
        """
        digest = hashlib.sha256(self.probe.weight.detach().cpu().numpy().astype("<f4").tobytes())
        digest.update(json.dumps(self.probe.bias).encode())
        card = self.card.model_dump(mode="json", exclude_none=True)
        digest.update(json.dumps(card, sort_keys=True).encode())
        return digest.hexdigest()


def save(folder: Path, probe: Probe, card: Card) -> None:
    """Writes the artefact into `folder` (made if missing), replacing an artefact that is there.

    An old card is deleted first: whenever a card exists, it describes the weights beside it.

    Raises:
        ValueError: card and probe disagree on name, layer, pooling or hidden size, or a metric is
            not finite.
    """
    described = (card.name, card.layer, card.pooling, card.model.hidden_size)
    actual = (probe.name, probe.layer, probe.pooling, len(probe.weight))
    if described != actual:
        raise ValueError(
            f"the card says {described}, the probe is {actual} (name, layer, pooling, hidden size)"
        )
    absent = {name for name in NEWER_FIELDS if getattr(card, name) is None}
    text = json.dumps(card.model_dump(exclude=absent), indent=2, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD_FILE).unlink(missing_ok=True)
    tensors = {
        "weight": probe.weight.detach().cpu().contiguous(),
        "bias": torch.tensor(probe.bias, dtype=torch.float32),
    }
    weights_partial = folder / (WEIGHTS_FILE + ".partial")
    save_file(tensors, weights_partial)
    _replace(weights_partial, folder / WEIGHTS_FILE)
    card_partial = folder / (CARD_FILE + ".partial")
    card_partial.write_text(text, encoding="utf-8")
    _replace(card_partial, folder / CARD_FILE)


def load(folder: Path) -> LoadedProbe:
    """Reads an artefact.

    Raises:
        ArtifactError: a file is missing (writing was cut off) or unreadable, or the two files
            contradict each other.
        ProbeMismatch: the card has a version that this Candor does not know.
    """
    if not (folder / CARD_FILE).is_file():
        hint = "the weights are there, so writing was cut off: train the probe again"
        reason = hint if (folder / WEIGHTS_FILE).is_file() else "is this a probe directory?"
        raise ArtifactError(f"no {CARD_FILE} in {folder}: {reason}")
    try:
        card = (folder / CARD_FILE).read_bytes()
        weights = (folder / WEIGHTS_FILE).read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {error.filename}: {error.strerror}") from error
    return load_bytes(card, weights, f"{folder / CARD_FILE}", f"{folder / WEIGHTS_FILE}")


def load_bytes(
    card_json: bytes, weights: bytes, card_name: str = "card", weights_name: str = "weights"
) -> LoadedProbe:
    """The artefact whose two files hold these bytes.

    Args:
        card_name, weights_name: what messages call the two.

    Raises:
        ArtifactError, ProbeMismatch: as `load`.
    """
    card = _read_card(card_json, card_name)
    try:
        tensors = load_tensors(weights)
    except SafetensorError as error:
        raise ArtifactError(f"cannot read {weights_name}: {error}") from error
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    hidden = card.model.hidden_size
    if shapes != {"weight": (torch.float32, (hidden,)), "bias": (torch.float32, ())}:
        raise ArtifactError(
            f"{weights_name} must hold 'weight' [{hidden}] and 'bias' [], both float32, "
            f"and nothing else; it holds {shapes}"
        )
    try:
        probe = Probe(
            card.name, tensors["weight"], float(tensors["bias"]), card.layer, card.pooling
        )
    except ValueError as error:
        raise ArtifactError(f"{weights_name}: {error}") from error
    return LoadedProbe(probe, card)


def check(
    card: Card,
    *,
    weights_sha256: str,
    template_sha256: str,
    hidden_size: int,
    num_layers: int,
    undated_template_sha256: str | None = None,
) -> str | None:
    """Refuses a probe that was not fitted on this very model and template.

    Args:
        undated_template_sha256: the hash of the template's text alone, if the template writes the
            date; None for other templates.

    Returns:
        A warning, or None. A card that was written before cards had dates is accepted with one.

    Raises:
        ProbeMismatch: model or template differ; the message names all differences, with both values
            shortened, and the remedy.
    """
    differs = []
    if card.model.hidden_size != hidden_size:
        differs.append(f"hidden size (probe {card.model.hidden_size}, model {hidden_size})")
    if card.layer > num_layers:
        differs.append(f"layer (probe reads {card.layer}, the model has 0 to {num_layers})")
    if card.model.weights_sha256 != weights_sha256:
        pair = f"probe {card.model.weights_sha256[:12]}, model {weights_sha256[:12]}"
        differs.append(f"model weights ({pair})")
    predates = card.template_sha256 == undated_template_sha256
    if card.template_sha256 != template_sha256 and not predates:
        pair = f"probe {card.template_sha256[:12]}, model {template_sha256[:12]}"
        fitted = card.template_date
        if fitted and card.template_sha256 == dated_sha256(undated_template_sha256 or "", fitted):
            pair = f"the probe's has the date {fitted}: give --template-date {fitted}"
        differs.append(f"chat template ({pair})")
    if differs:
        raise ProbeMismatch(
            f"probe {card.name!r} was fitted on {card.model.id!r} and does not fit this model, "
            f"which differs in {'; '.join(differs)}. Serve the model that the probe was fitted on, "
            "or fit a probe on this model with 'candor probe train'."
        )
    if predates:
        return (
            f"the card of probe {card.name!r} does not say with which date its chat template was "
            "rendered; give the date of the fit with --template-date, or fit the probe again"
        )
    return None


def _read_card(content: bytes, name: str) -> Card:
    """Checks the version before all other fields, so that a newer card gets the right message."""
    text = content.removeprefix(jsonl.BOM)
    try:
        raw = jsonl.parse(text)
    except ValueError as error:
        raise ArtifactError(f"{name} is {error}") from error
    version = raw.get("card_version") if isinstance(raw, dict) else None
    if version != CARD_VERSION:
        raise ProbeMismatch(
            f"{name} has card_version {version!r}; this Candor reads {CARD_VERSION}: "
            "use the Candor that wrote it, or train the probe again"
        )
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        raise ArtifactError(f"{name}: {first_fault(error, 'card')}") from error


def _replace(partial: Path, final: Path) -> None:
    """Moves a finished file into place once its bytes are on disk."""
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(final)
