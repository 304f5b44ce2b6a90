"""Loads a reward model safely: `load_reward_model` gives a `RewardModel`.

transformers builds the trunk from config.json. `candor.models.heads` finds the head in the weights;
if it is missing the model is refused, because transformers would draw a random head and the server
would serve it. Encoders and models of images or sound are refused by name: the reward is read at
the last token, so the model must be a decoder of text. docs/models.md lists the architectures.
`candor.models.checkpoint` checks the folder's files, `candor.models.causes` words what goes wrong.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from huggingface_hub import snapshot_download
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from candor.forward.capture import num_hidden_layers
from candor.forward.precision import cpu_dtype
from candor.models.causes import cause_of
from candor.models.checkpoint import (
    ModelRefused,
    Tensors,
    read_config,
    read_tensors,
    refuse_links_out,
    snapshot_name,
)
from candor.models.heads import NEVER_LOADED, SCORE_WEIGHT, find_head, head_names, load_head
from candor.probes.identity import dated_sha256, template_sha256, weights_sha256
from candor.text.render import Renderer
from candor.text.template import ChatTemplate
from candor.text.writing import Ending

log = logging.getLogger(__name__)

DType = Literal["float32", "bfloat16", "float16", "auto"]

_WINDOWS = ("max_position_embeddings", "max_seq_len", "seq_length")
"""Where architectures keep the most tokens of a text: most, MPT, some of BLOOM."""

# Weights, configuration and tokeniser; never code and never pickles.
HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]


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
    _refuse_other_architectures(config)
    where = _pick_device(device)
    max_length = _max_length(raw, config.get_text_config())
    tokenizer = _load_tokenizer(folder)
    picked = _pick_dtype(dtype, where, config)
    if trunk:
        model = _on_device(_load_weights(folder, raw, config, picked), where)
    else:
        model = _load_head_only(folder, raw, config)
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
    if not HUB_ID.fullmatch(name):
        raise ModelRefused(f"there is no folder {name!r}, and a hub id is ORGANISATION/MODEL")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_DOWNLOADED))
    except Exception as error:
        raise ModelRefused(
            f"{name!r} is not a folder and cannot be fetched from the hub: {cause_of(error)}"
        ) from error


def _load_config(folder: Path) -> PretrainedConfig:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelRefused(
            f"transformers cannot read config.json: {cause_of(error, folder)}"
        ) from error
    return cast(PretrainedConfig, config)


def _ending(raw: Mapping[str, Any]) -> Ending:
    ending = raw.get("candor_ending", "template")
    if ending not in get_args(Ending):
        raise ModelRefused(f"candor_ending in config.json must be one of {get_args(Ending)}")
    return cast(Ending, ending)


def _refuse_other_architectures(config: PretrainedConfig) -> None:
    """Refuses by name, before any weight is read, a model that is not a decoder of text with a
    reward head that Candor reads as transformers does."""
    kind = config.model_type
    where = "docs/models.md lists the architectures that are served"
    if config.get_text_config() is not config:
        raise ModelRefused(
            f"{kind} is made of several models (images, sound or an encoder beside the text), and "
            f"only text decoders are served: save the text model and its head alone ({where})"
        )
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelRefused(
            f"transformers has no {kind} with a reward head (no class for sequence classification; "
            f"{where})"
        )
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
                config, trust_remote_code=False
            )
    except Exception as error:
        raise ModelRefused(
            f"transformers cannot build a {kind} from config.json: {cause_of(error)}"
        ) from error
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise ModelRefused(
            f"{type(model).__name__} ({kind}) is not a causal decoder with a one-label head on its "
            f"last token: it is an encoder, or has more than the head on its trunk ({where})"
        )
    try:
        num_hidden_layers(model)
    except ValueError as error:
        raise ModelRefused(f"{error} ({where})") from error


def _max_length(raw: Mapping[str, Any], text_config: PretrainedConfig) -> int:
    windows = (getattr(text_config, name, None) for name in _WINDOWS)
    window = next((n for n in windows if isinstance(n, int) and n > 0), None)
    length = raw.get("candor_max_length", window)
    if length is None:
        raise ModelRefused(
            "config.json gives no max_position_embeddings: the window is unknown; add "
            "candor_max_length, the most tokens of a text"
        )
    if not isinstance(length, int) or not 1 <= length <= (window or length):
        end = f"1 to {window}" if window else "1"
        raise ModelRefused(f"candor_max_length in config.json must be a number from {end}")
    return length


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        reason = cause_of(error, folder)
        raise ModelRefused(
            f"the tokeniser does not load: {_missing_package(folder) or reason}"
        ) from error
    if not tokenizer.is_fast:
        raise ModelRefused(
            "the tokeniser is not a fast one: response tokens cannot be located; save it with "
            "tokenizer.json"
        )
    if not isinstance(tokenizer.chat_template, str | None):
        raise ModelRefused(
            "the tokeniser has several chat templates; keep the one the model was trained with"
        )
    return cast(PreTrainedTokenizerBase, tokenizer)


def _missing_package(folder: Path) -> str | None:
    """What to install for a tokeniser that is saved in a form of its own only; None if nothing."""
    path = folder / "tokenizer.model"
    if (folder / "tokenizer.json").is_file() or not path.is_file():
        return None
    with path.open("rb") as file:
        line = file.readline(1000)
    kind, packages = "SentencePiece", ["sentencepiece", "protobuf"]
    if re.fullmatch(rb"[A-Za-z0-9+/]+=* \d+\s*", line):
        kind, packages = "tiktoken", ["tiktoken"]
    modules = {"protobuf": "google.protobuf"}
    missing = [one for one in packages if not _is_installed(modules.get(one, one))]
    if not missing:
        return None
    return (
        f"it is saved in {kind}'s form alone (tokenizer.model), and {' and '.join(missing)} is not "
        f"installed: pip install {' '.join(missing)}, or save it with tokenizer.json"
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def _load_weights(
    folder: Path, raw: Mapping[str, Any], config: PretrainedConfig, dtype: torch.dtype
) -> PreTrainedModel:
    """The trunk in `dtype` and the head in float32. Missing and unread tensors are refused."""
    tensors = read_tensors(folder)
    head = find_head(tensors, raw)
    text_config = config.get_text_config()
    config.num_labels = 1  # a base model's configuration says otherwise
    # transformers' sdpa, its default, silently ignores attention soft-capping (Gemma 2), and gives
    # other numbers with linear biases (Falcon).
    unlike_sdpa = ("attn_logit_softcapping", "alibi")
    eager = any(getattr(text_config, name, None) for name in unlike_sdpa)
    try:
        with _no_load_report():
            model, found = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation="eager" if eager else None,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        raise ModelRefused(f"the weights do not load: {cause_of(error, folder)}") from error
    if missing := sorted(set(found["missing_keys"]) - {SCORE_WEIGHT}):
        raise ModelRefused(f"the weights lack {missing[0]}; is this a trained reward model?")
    if mismatched := sorted(str(key) for key in found["mismatched_keys"]):
        raise ModelRefused(f"the weights do not fit config.json: {mismatched[0]}")
    _refuse_unread(found["unexpected_keys"], head, tensors)
    model.score = load_head(head, tensors, raw, text_config.hidden_size)
    return cast(PreTrainedModel, model)


def _on_device(model: PreTrainedModel, where: str) -> PreTrainedModel:
    try:
        return cast(PreTrainedModel, cast(torch.nn.Module, model).to(where))
    except Exception as error:
        raise ModelRefused(f"the model cannot be moved to {where}: {cause_of(error)}") from error


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
