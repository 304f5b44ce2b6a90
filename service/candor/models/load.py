"""Loads a reward model safely: `load_reward_model` gives a `RewardModel`.

The parts: `checkpoint` checks the folder's files, `architecture` reads config.json, `tokenizer` and
`weights` load the two, `heads` finds the head, `causes` words what goes wrong.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, cast

import torch
from huggingface_hub import snapshot_download
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from candor.forward.capture import num_hidden_layers
from candor.forward.precision import cpu_dtype
from candor.models.architecture import (
    ending_of,
    load_config,
    max_length_of,
    refuse_other_architectures,
)
from candor.models.causes import cause_of
from candor.models.checkpoint import ModelRefused, read_config, refuse_links_out, snapshot_name
from candor.models.tokenizer import load_tokenizer, template_identity
from candor.models.weights import load_head_only, load_weights
from candor.probes import artifact
from candor.probes.card import Card
from candor.probes.identity import template_sha256, weights_sha256
from candor.text.render import Renderer
from candor.text.writing import Ending

log = logging.getLogger(__name__)

DType = Literal["float32", "bfloat16", "float16", "auto"]

HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
"""Weights, configuration and tokeniser; never code and never pickles."""


@dataclass(frozen=True, slots=True, repr=False)
class RewardModel:
    """A loaded reward model: one label, eval mode, on `device`.

    Attributes:
        id: the hub name, or the folder's last component (never a path); for a snapshot of the hub's
            cache, the hub name that it was downloaded under.
        weights_sha256: hash of all safetensors files; a probe's card has the same.
        template_sha256: hash of the chat template; without a template, of the empty text. If the
            template writes the date, that date is in the hash.
        template_date: the date that the template is told; None if it asks for none.
        max_length: the window in tokens: `max_position_embeddings` of config.json (or what its
            architecture has in place of it), or its `candor_max_length` where the reward model was
            trained on shorter texts.
        dtype, device: for example `bfloat16` and `cuda`.
        ending: `candor_ending` of config.json; it says at which token R is read.
        folder: the folder of the model's files.
    """

    id: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    weights_sha256: str
    template_sha256: str
    hidden_size: int
    num_layers: int
    max_length: int
    ending: Ending
    dtype: str
    device: str
    folder: Path = Path()
    template_date: date | None = None

    def renderer(self) -> Renderer:
        """A renderer of this model's texts, with the model's window, ending and date."""
        return Renderer(
            self.tokenizer,
            max_length=self.max_length,
            ending=self.ending,
            template_date=self.template_date,
        )

    def check_probe(self, card: Card) -> str | None:
        """Refuses a probe that was not fitted on this model and template.

        Returns:
            A warning, or None.

        Raises:
            ProbeMismatch: as `candor.probes.artifact.check`.
        """
        return artifact.check(
            card,
            weights_sha256=self.weights_sha256,
            template_sha256=self.template_sha256,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            undated_template_sha256=self.undated_template_sha256,
        )

    @property
    def undated_template_sha256(self) -> str | None:
        """The hash of the template without its date; None if the template asks for no date."""
        if self.template_date is None:
            return None
        return template_sha256(cast(str, self.tokenizer.chat_template))


def load_reward_model(
    name_or_path: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: DType = "auto",
    trunk: bool = True,
    template_date: date | None = None,
) -> RewardModel:
    """Loads a folder, or a repository of the Hugging Face hub (from the cache when offline).

    Args:
        name_or_path: a folder that exists, else a hub name.
        revision: revision of the hub repository; a commit pins it.
        device: `auto` is CUDA if there is a GPU, else the CPU.
        dtype: `auto` is bfloat16 on CUDA; on a CPU it is the checkpoint's dtype if the CPU computes
            fast in it, else float32 (`candor.forward.precision`).
        trunk: False leaves the trunk's weights in their files, for an engine that loads them
            itself: the trunk's modules are on the meta device (shapes without numbers). The head is
            loaded either way.
        template_date: the date for a chat template that writes one; by default today.

    Raises:
        ModelRefused: the message says why (see also `candor.models.checkpoint` and
            `candor.models.heads`).
    """
    folder = Path(name_or_path)
    is_local = folder.is_dir()
    if is_local:
        refuse_links_out(folder)
    else:
        folder = _download(name_or_path, revision)
    raw = read_config(folder)
    config = load_config(folder)
    ending = ending_of(raw)
    refuse_other_architectures(config)
    where = _pick_device(device)
    max_length = max_length_of(raw, config.get_text_config())
    tokenizer = load_tokenizer(folder)
    picked = _pick_dtype(dtype, where, config)
    if trunk:
        model = _on_device(load_weights(folder, raw, config, picked), where)
    else:
        model = load_head_only(folder, raw, config)
    text_config = config.get_text_config()
    return RewardModel(
        id=(snapshot_name(folder) or folder.resolve().name) if is_local else name_or_path,
        model=model,
        tokenizer=tokenizer,
        weights_sha256=weights_sha256(folder),
        hidden_size=text_config.hidden_size,
        num_layers=num_hidden_layers(model),
        max_length=max_length,
        ending=ending,
        dtype=str(picked).removeprefix("torch."),
        device=where,
        folder=folder,
        **template_identity(tokenizer, template_date),
    )


def _download(name: str, revision: str | None) -> Path:
    if not HUB_ID.fullmatch(name):
        raise ModelRefused(f"there is no folder {name!r}, and a hub id is ORGANISATION/MODEL")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_DOWNLOADED))
    except Exception as error:
        raise ModelRefused(
            f"{name!r} is not a folder and cannot be fetched from the hub: {cause_of(error)}"
        ) from error


def _on_device(model: PreTrainedModel, where: str) -> PreTrainedModel:
    try:
        return cast(PreTrainedModel, cast(torch.nn.Module, model).to(where))
    except Exception as error:
        raise ModelRefused(f"the model cannot be moved to {where}: {cause_of(error)}") from error


def _pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _pick_dtype(dtype: DType, device: str, config: PretrainedConfig) -> torch.dtype:
    if dtype != "auto":
        return cast(torch.dtype, getattr(torch, dtype))
    if device.startswith("cuda"):
        return torch.bfloat16
    own = cast(torch.dtype, config.dtype or torch.float32)
    picked = cpu_dtype(own)
    if picked != own:
        # The standard library's logger: jobs load models too, and stdout is for their results.
        log.warning(
            "the weights are %s, in which this CPU is slow: loaded as %s (a --dtype is kept)",
            str(own).removeprefix("torch."),
            str(picked).removeprefix("torch."),
        )
    return picked
