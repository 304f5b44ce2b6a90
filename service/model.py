"""Load a reward model safely, and what is known of it.

A model folder is somebody else's file: it may hold code, pickles, links and a head that was never
trained. Everything of that kind is refused here, by name, before the weights are read. Not here:
custom heads that are not `AutoModelForSequenceClassification`, and encoders (the score is read at
the last token, so the model has to be a causal decoder).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from huggingface_hub import snapshot_download
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from probes.capture import num_hidden_layers
from probes.identity import template_sha256, weights_sha256
from service.render import Ending

DType = Literal["float32", "bfloat16", "float16", "auto"]

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

# Weights, configuration and tokeniser; never code and never pickles.
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]


class ModelRefused(ValueError):
    """The model cannot or must not be served; the message is one line with the reason."""


@dataclass(frozen=True, slots=True, repr=False)
class RewardModel:
    """A loaded reward model: one label, eval mode, on `device`.

    Attributes:
        id: the hub name, or the folder's last component (never a path).
        weights_sha256: over all safetensors files; a probe's card names the same.
        template_sha256: of the chat template, also when there is none.
        max_length: the window in tokens (`max_position_embeddings`).
        dtype, device: as chosen, e.g. `bfloat16` and `cuda`.
        ending: from `candor_ending` in config.json; where R is read.
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


def load_reward_model(
    name_or_path: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: DType = "auto",
) -> RewardModel:
    """Loads a folder, or a repository of the Hugging Face hub (from the cache when offline).

    Args:
        name_or_path: a folder that exists, else a hub name.
        revision: of the hub repository; a commit pins it.
        device: `auto` is CUDA when there is one, else the CPU.
        dtype: `auto` is bfloat16 on CUDA and the checkpoint's own on a CPU.

    Raises:
        ModelRefused: see the checks in this file; the message names the reason.
    """
    folder = Path(name_or_path)
    is_local = folder.is_dir()
    if is_local:
        _refuse_links_out(folder)
    else:
        folder = _download(name_or_path, revision)
    raw = _refuse_files(folder)
    config = _load_config(folder)
    ending = raw.get("candor_ending", "template")
    if ending not in get_args(Ending):
        raise ModelRefused(f"candor_ending in config.json must be one of {get_args(Ending)}")
    where = _pick_device(device)
    tokenizer = _load_tokenizer(folder)
    model = _load_weights(folder, config, _pick_dtype(dtype, where, config))
    cast(torch.nn.Module, model).to(where)
    text_config = config.get_text_config()
    return RewardModel(
        id=folder.resolve().name if is_local else name_or_path,
        model=model,
        tokenizer=tokenizer,
        weights_sha256=weights_sha256(folder),
        template_sha256=template_sha256(tokenizer.chat_template),
        hidden_size=text_config.hidden_size,
        num_layers=num_hidden_layers(model),
        max_length=_window(text_config),
        ending=ending,
        dtype=str(model.dtype).removeprefix("torch."),
        device=where,
    )


def _download(name: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except Exception as error:
        raise ModelRefused(
            f"{name!r} is not a folder and could not be had from the hub ({type(error).__name__})"
        ) from error


def _refuse_links_out(folder: Path) -> None:
    """A link that leaves a local folder would make its contents depend on who runs the server.

    Snapshots of the hub's cache are links by design, so this is for folders that were given by
    path.
    """
    root = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ModelRefused(f"{path.name} is a link that leaves the model folder; copy the file")


def _refuse_files(folder: Path) -> dict[str, Any]:
    """Code, pickles, adapters. Returns config.json as it is written."""
    raw = _read_json(folder / "config.json")
    if raw is None:
        raise ModelRefused("no config.json: this is not a transformers model folder")
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in (_read_json(folder / name) or {}):
            raise ModelRefused(f"{name} has an auto_map: the model brings code, which is never run")
    names = sorted(path.name for path in folder.rglob("*") if path.is_file())
    if code := [name for name in names if name.endswith(".py")]:
        raise ModelRefused(
            f"the folder holds Python code ({code[0]}), which is never run: remove it"
        )
    if "adapter_config.json" in names:
        raise ModelRefused(
            "the folder holds an adapter; merge it into its base model and save that"
        )
    if not any(path.suffix == ".safetensors" for path in folder.iterdir()):
        if pickles := [name for name in names if name.endswith(PICKLES)]:
            raise ModelRefused(f"the weights are a pickle ({pickles[0]}); convert to safetensors")
        raise ModelRefused("the folder holds no safetensors weights")
    index = _read_json(folder / "model.safetensors.index.json") or {}
    shards = {str(shard) for shard in dict(index.get("weight_map", {})).values()}
    # Only files of the folder itself go into the weights' sha256.
    if strangers := sorted(shards - {path.name for path in folder.iterdir()}):
        raise ModelRefused(f"the weights' index names {strangers[0]}, not a file of the folder")
    return raw


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when there is no file."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelRefused(f"{path.name} is not JSON") from error
    if not isinstance(value, dict):
        raise ModelRefused(f"{path.name} is not a JSON object")
    return value


def _load_config(folder: Path) -> PretrainedConfig:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelRefused(
            f"transformers cannot read config.json ({type(error).__name__})"
        ) from error
    if config.num_labels != 1:
        raise ModelRefused(f"the model has {config.num_labels} labels; a reward model has 1")
    _window(config.get_text_config())
    return cast(PretrainedConfig, config)


def _window(text_config: PretrainedConfig) -> int:
    window = getattr(text_config, "max_position_embeddings", None)
    if not isinstance(window, int) or window < 1:
        raise ModelRefused("config.json gives no max_position_embeddings: the window is unknown")
    return window


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelRefused(f"the tokeniser does not load ({type(error).__name__})") from error
    if not tokenizer.is_fast:
        raise ModelRefused("the tokeniser is not a fast one: response tokens cannot be located")
    if not isinstance(tokenizer.chat_template, str | None):
        raise ModelRefused(
            "the tokeniser has several chat templates; keep the one it was trained with"
        )
    return cast(PreTrainedTokenizerBase, tokenizer)


def _load_weights(folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The weights, all of them: a head that is missing would be drawn at random, and served."""
    # transformers' sdpa ignores attention soft-capping without a word, and is its default (Gemma
    # 2).
    softcap = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation="eager" if softcap else None,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelRefused(f"the weights do not load ({type(error).__name__})") from error
    if missing := sorted(found["missing_keys"]):
        raise ModelRefused(f"the weights lack {missing[0]}; is this a trained reward model?")
    if mismatched := sorted(str(key) for key in found["mismatched_keys"]):
        raise ModelRefused(f"the weights do not fit config.json: {mismatched[0]}")
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear) or head.out_features != 1:
        raise ModelRefused(f"{type(model).__name__} is not a causal decoder with a one-label head")
    if not torch.isfinite(head.weight).all():
        raise ModelRefused("the head's weights (score.weight) are not finite")
    try:
        num_hidden_layers(model)
    except ValueError as error:
        raise ModelRefused(str(error)) from error
    return cast(PreTrainedModel, model)


def _pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _pick_dtype(dtype: DType, device: str, config: PretrainedConfig) -> torch.dtype:
    if dtype != "auto":
        return cast(torch.dtype, getattr(torch, dtype))
    if device.startswith("cuda"):
        return torch.bfloat16
    return cast(torch.dtype, config.dtype or torch.float32)
