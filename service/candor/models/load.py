"""Loads a reward model safely: `load_reward_model` gives a `RewardModel`.

transformers builds the trunk from config.json. `candor.models.heads` finds the head in the weights;
if it is missing the model is refused, because transformers would draw a random head and the server
would serve it. Encoders are refused too: the reward is read at the last token, so the model must be
a causal decoder. `candor.models.checkpoint` checks the folder's files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
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

from candor.forward.capture import num_hidden_layers
from candor.forward.precision import cpu_dtype
from candor.models.checkpoint import (
    ModelRefused,
    Tensors,
    read_config,
    read_tensors,
    refuse_links_out,
)
from candor.models.heads import NEVER_LOADED, SCORE_WEIGHT, find_head, head_names, load_head
from candor.probes.identity import dated_sha256, template_sha256, weights_sha256
from candor.text.render import Ending, Renderer
from candor.text.template import ChatTemplate

log = logging.getLogger(__name__)

DType = Literal["float32", "bfloat16", "float16", "auto"]

# Weights, configuration and tokeniser; never code and never pickles.
_DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]


@dataclass(frozen=True, slots=True, repr=False)
class RewardModel:
    """A loaded reward model: one label, eval mode, on `device`.

    Attributes:
        id: the hub name, or the folder's last component (never a path).
        weights_sha256: hash of all safetensors files; a probe's card has the same.
        template_sha256: hash of the chat template; without a template, of the empty text. If the
            template writes the date, that date is in the hash.
        template_date: the date that the template is told; None if it asks for none.
        max_length: the window in tokens: `max_position_embeddings` of config.json, or its
            `candor_max_length` where the reward model was trained on shorter texts.
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
    config = _load_config(folder)
    ending = _ending(raw)
    where = _pick_device(device)
    max_length = _max_length(raw, config.get_text_config())
    tokenizer = _load_tokenizer(folder)
    picked = _pick_dtype(dtype, where, config)
    if trunk:
        model = _load_weights(folder, raw, config, picked)
        cast(torch.nn.Module, model).to(where)
    else:
        model = _load_head_only(folder, raw, config)
    text_config = config.get_text_config()
    return RewardModel(
        id=folder.resolve().name if is_local else name_or_path,
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
        **_template_identity(tokenizer, template_date),
    )


def _template_identity(
    tokenizer: PreTrainedTokenizerBase, template_date: date | None
) -> dict[str, Any]:
    """The template's hash, and the date that it is told if it asks for one: two attributes of
    `RewardModel`."""
    template = ChatTemplate(tokenizer, template_date=template_date)
    undated = template_sha256(cast(str | None, tokenizer.chat_template))
    if not template.is_stable():
        raise ModelRefused("the chat template writes another text each time it is called")
    if not template.reads_clock():
        return {"template_sha256": undated}
    dated = dated_sha256(undated, template.date.isoformat())
    return {"template_sha256": dated, "template_date": template.date}


def _download(name: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_DOWNLOADED))
    except Exception as error:
        raise ModelRefused(
            f"{name!r} is not a folder and cannot be fetched from the hub ({type(error).__name__})"
        ) from error


def _load_config(folder: Path) -> PretrainedConfig:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelRefused(
            f"transformers cannot read config.json ({type(error).__name__})"
        ) from error
    return cast(PretrainedConfig, config)


def _ending(raw: Mapping[str, Any]) -> Ending:
    ending = raw.get("candor_ending", "template")
    if ending not in get_args(Ending):
        raise ModelRefused(f"candor_ending in config.json must be one of {get_args(Ending)}")
    return cast(Ending, ending)


def _max_length(raw: Mapping[str, Any], text_config: PretrainedConfig) -> int:
    window = getattr(text_config, "max_position_embeddings", None)
    if not isinstance(window, int) or window < 1:
        raise ModelRefused("config.json gives no max_position_embeddings: the window is unknown")
    length = raw.get("candor_max_length", window)
    if not isinstance(length, int) or not 1 <= length <= window:
        raise ModelRefused(f"candor_max_length in config.json must be a number from 1 to {window}")
    return length


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelRefused(f"the tokeniser does not load ({type(error).__name__})") from error
    if not tokenizer.is_fast:
        raise ModelRefused("the tokeniser is not a fast one: response tokens cannot be located")
    if not isinstance(tokenizer.chat_template, str | None):
        raise ModelRefused(
            "the tokeniser has several chat templates; keep the one the model was trained with"
        )
    return cast(PreTrainedTokenizerBase, tokenizer)


def _load_weights(
    folder: Path, raw: Mapping[str, Any], config: PretrainedConfig, dtype: torch.dtype
) -> PreTrainedModel:
    """The trunk in `dtype` and the head in float32. Missing and unread tensors are refused."""
    tensors = read_tensors(folder)
    head = find_head(tensors, raw)
    text_config = config.get_text_config()
    config.num_labels = 1  # a base model's configuration says otherwise
    # transformers' sdpa, its default, silently ignores attention soft-capping (Gemma 2).
    softcap = getattr(text_config, "attn_logit_softcapping", None)
    try:
        with _no_load_report():
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
    if missing := sorted(set(found["missing_keys"]) - {SCORE_WEIGHT}):
        raise ModelRefused(f"the weights lack {missing[0]}; is this a trained reward model?")
    if mismatched := sorted(str(key) for key in found["mismatched_keys"]):
        raise ModelRefused(f"the weights do not fit config.json: {mismatched[0]}")
    _refuse_unread(found["unexpected_keys"], head, tensors)
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise ModelRefused(f"{type(model).__name__} is not a causal decoder with a one-label head")
    try:
        num_hidden_layers(model)
    except ValueError as error:
        raise ModelRefused(str(error)) from error
    model.score = load_head(head, tensors, raw, text_config.hidden_size)
    return cast(PreTrainedModel, model)


def _load_head_only(
    folder: Path, raw: Mapping[str, Any], config: PretrainedConfig
) -> PreTrainedModel:
    """The model's shapes with its real head. The engine that loads the trunk checks its weights."""
    tensors = read_tensors(folder)
    head = find_head(tensors, raw)
    config.num_labels = 1
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=False
        )
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise ModelRefused(f"{type(model).__name__} is not a causal decoder with a one-label head")
    model.score = load_head(head, tensors, raw, config.get_text_config().hidden_size)
    return cast(PreTrainedModel, model)


def _refuse_unread(unexpected: set[str], head: str, tensors: Tensors) -> None:
    """Refuses weights that no part of the model reads: they may be a part of the reward, such as a
    gate or a second layer."""
    unread = unexpected - head_names(head, tensors) - NEVER_LOADED
    if unread:
        raise ModelRefused(
            f"the weights hold {min(unread)} ({len(unread)} such), which the model would not read: "
            "its reward would not be the published one"
        )


@contextmanager
def _no_load_report() -> Iterator[None]:
    """Suppresses transformers' table of missing weights. The table calls custom heads untrained,
    because transformers cannot know that they are read here. All of it is checked above."""

    def keep(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


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
