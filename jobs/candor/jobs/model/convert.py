"""`candor model convert`: a published reward model -> a safetensors folder that Candor serves.

Starling-RM-7B-alpha and UltraRM-13b are published as pickles, without a chat template and with a
base model's configuration; each of Starling's tensors has two names (`transformer.` and
`model.model.`, its wrapper's attributes). Here torch's restricted reader, which runs no code, reads
the pickle once. The trunk gets transformers' names, and the head the name `score`. The model's
input format (template, token at which R is read, longest text) is written beside the weights. The
weights and their dtype do not change.

This is the only place in Candor where a pickle is opened. It downloads nothing and runs no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from candor.flags import UsageError
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import write_json
from candor.jobs.running.progress import say
from candor.models.causes import cause_of
from candor.models.checkpoint import ModelRefused, Tensors, read_json
from candor.models.heads import NEVER_LOADED, find_head
from candor.probes.identity import template_sha256, weights_sha256
from candor.text.writing import Ending

TEMPLATES = Path(__file__).parent / "templates"

EMBEDDINGS = "embed_tokens.weight"
"""Every trunk that is converted has this tensor; the text before it is the trunk's prefix."""

BUFFERS = re.compile(r"(^|\.)rotary_emb\.inv_freq$")
"""transformers computes them from the configuration since 2023; older checkpoints store them."""


@dataclass(frozen=True)
class PublishedModel:
    """A published reward model's input format (arXiv 2412.00967; its model card)."""

    ending: Ending
    max_length: int | None


PUBLISHED = {
    "starling": PublishedModel(ending="template", max_length=2048),
    "ultrarm": PublishedModel(ending="none", max_length=None),
}


@command
def convert(
    checkpoint: Path,
    *,
    out: Path,
    base: Path | None = None,
    template: Literal["starling", "ultrarm"] | None = None,
) -> Exit:
    """Convert a reward model that is published as a pickle to a safetensors folder.

    Parameters
    ----------
    checkpoint
        Folder with the weights: pytorch_model*.bin, *.pt or *.safetensors.
    out
        Folder to write; it must not exist.
    base
        Folder with config.json and the tokeniser, where the checkpoint's folder has none.
    template
        Use the chat template and length limit of this known reward model, in place of the
        tokeniser's own.
    """
    source = base or checkpoint
    if out.exists():
        raise UsageError(f"--out {out}: exists; remove it or name another folder")
    try:
        config = sequence_classification_config(source, template)
        tensors = renamed(read_weights(checkpoint), config)
        check_fit(tensors, config)
        tokenizer = load_tokenizer(source, template)
    except (ModelRefused, OSError) as error:
        raise UsageError(str(error)) from error
    say(f"writing {out}")
    write(out, tensors, config, tokenizer)
    print(json.dumps(summary(out, tensors, config, tokenizer)))
    return Exit.DONE


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the checkpoint by its published name, memory-mapped where possible.

    Raises:
        ModelRefused: there are no weights, or a pickle holds anything but tensors.
    """
    if not folder.is_dir():
        raise ModelRefused(f"--checkpoint {folder}: no such folder")
    files = sorted(folder.glob("*.safetensors")) or sorted(
        path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth")
    )
    # A trainer leaves this file beside the weights of many checkpoints; it holds no tensor.
    files = [path for path in files if path.name != "training_args.bin"]
    if not files:
        raise ModelRefused(f"--checkpoint {folder}: no .safetensors, .bin or .pt file")
    tensors: dict[str, Tensor] = {}
    for path in files:
        say(f"reading {path}")
        found = load_file(path) if path.suffix == ".safetensors" else unpickled(path)
        if twice := sorted(found.keys() & tensors.keys()):
            raise ModelRefused(f"{path.name}: {twice[0]} is in another file as well")
        tensors |= found
    return tensors


def unpickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch pickle.

    torch's restricted reader (safe since torch 2.6) builds only tensors and containers and refuses
    every other name, so nothing in the file is run.

    Raises:
        ModelRefused: the file is broken, or holds anything but a table of tensors.
    """
    try:
        found = torch.load(  # noqa: TID251  published checkpoints are pickles
            path, map_location="cpu", weights_only=True, mmap=True
        )
    except Exception as error:  # a broken or hostile file can raise anything
        raise ModelRefused(
            f"{path.name} is not a plain torch checkpoint ({type(error).__name__}): only a table "
            "of tensors is read, and code in a pickle is never run; if the download was cut off, "
            "download it again"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ModelRefused(f"{path.name} holds more than a table of tensors by name")
    return found


def renamed(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The trunk's tensors under `model.` and the head's under `score.`.

    Raises:
        ModelRefused: there is no trunk or head, or several different ones, or a tensor belongs to
            neither.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    head = find_head(Tensors(dict.fromkeys(tensors, Path()), shapes), config)
    stem = head.removesuffix("weight")
    prefixes = sorted(n.removesuffix(EMBEDDINGS) for n in tensors if n.endswith(EMBEDDINGS))
    if not prefixes:
        raise ModelRefused(f"no {EMBEDDINGS}: not a decoder that Candor serves")
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if name in (head, stem + "bias"):
            new = "score." + name.removeprefix(stem)
        elif BUFFERS.search(name) or name.rpartition("model.")[2] in NEVER_LOADED:
            continue
        elif prefix is not None:
            new = "model." + name.removeprefix(prefix)
        else:
            raise ModelRefused(f"{name} belongs neither to the trunk nor to the head {head}")
        if new in renamed and not same(renamed[new], tensor):
            raise ModelRefused(f"{name} and another tensor are both {new}, and they differ")
        renamed[new] = tensor
    return renamed


def same(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors hold the same numbers; tensors in the same memory are not compared."""
    if left.data_ptr() == right.data_ptr() and left.shape == right.shape:
        return True
    return left.dtype == right.dtype and torch.equal(left, right)


def sequence_classification_config(folder: Path, template: str | None) -> dict[str, Any]:
    """config.json of the converted model: one label, no code, the model's input format.

    Raises:
        ModelRefused: there is no config.json, or transformers does not have its model type.
    """
    raw = read_json(folder / "config.json")
    if raw is None:
        raise ModelRefused(f"{folder} has no config.json: give the base model's folder as --base")
    raw.pop("auto_map", None)
    kind = str(raw.get("model_type"))
    try:
        built = AutoModelForSequenceClassification._model_mapping[type(AutoConfig.for_model(kind))]
    except (KeyError, ValueError) as error:
        raise ModelRefused(f"config.json: no sequence classification for {kind!r}") from error
    raw |= {
        "architectures": [cast(type, built).__name__],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    if template is not None:
        published = PUBLISHED[template]
        raw["candor_ending"] = published.ending
        if published.max_length is not None and published.max_length < raw.get(
            "max_position_embeddings", 0
        ):
            raw["candor_max_length"] = published.max_length
    return raw


def check_fit(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Compare names and shapes with the model that config.json describes, before writing.

    Raises:
        ModelRefused: a tensor is missing, superfluous or of another shape.
    """
    values = {name: value for name, value in config.items() if name != "model_type"}
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.for_model(config["model_type"], **values)
        )
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name != "score.bias"}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ModelRefused(
                f"{name}: the checkpoint has {found.get(name, 'none')}, config.json asks for "
                f"{wanted.get(name, 'none')}"
            )


def load_tokenizer(folder: Path, template: str | None) -> PreTrainedTokenizerBase:
    """The base model's tokeniser, with the chat template named `template` unless that is None.

    Raises:
        ModelRefused: the tokeniser does not load, or has no fast form.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelRefused(
            f"the tokeniser in {folder} does not load: {cause_of(error)}; --base may name a folder "
            "that has it"
        ) from error
    if not tokenizer.is_fast:
        raise ModelRefused(f"the tokeniser in {folder} has no fast form (tokenizer.json)")
    if template is not None:
        tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    return cast(PreTrainedTokenizerBase, tokenizer)


def write(
    out: Path,
    tensors: dict[str, Tensor],
    config: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Write the folder, config.json last: a folder without it is incomplete, and refused."""
    out.mkdir(parents=True)
    save_torch_state_dict(tensors, out)
    tokenizer.save_pretrained(out)
    write_json(out / "config.json", dict(config))
    for weights in out.glob("*.safetensors"):
        weights.chmod(0o644)  # saved as 0600, which a container of another user could not read


def summary(
    out: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """The last line of stdout."""
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    return {
        "out": str(out),
        "weights_sha256": weights_sha256(out),
        "template_sha256": template_sha256(cast(str | None, tokenizer.chat_template)),
        "num_parameters": sum(tensor.numel() for tensor in tensors.values()),
        "dtypes": dtypes,
        "ending": config.get("candor_ending", "template"),
        "max_length": config.get("candor_max_length", config.get("max_position_embeddings")),
    }
