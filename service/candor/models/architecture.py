"""What config.json says: whether the architecture is served, the window, the ending.

Encoders and models of images or sound are refused by name, before any weight is read: the reward is
read at the last token, so the model must be a decoder of text. docs/models.md lists the
architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import torch
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
)

from candor.forward.capture import num_hidden_layers
from candor.models.causes import cause_of
from candor.models.checkpoint import ModelRefused
from candor.text.writing import Ending

_WINDOWS = ("max_position_embeddings", "max_seq_len", "seq_length")
"""Where architectures keep the most tokens of a text: most, MPT, some of BLOOM."""


def load_config(folder: Path) -> PretrainedConfig:
    """The configuration, without any code that the folder brings."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelRefused(
            f"transformers cannot read config.json: {cause_of(error, folder)}"
        ) from error
    return cast(PretrainedConfig, config)


def ending_of(raw: Mapping[str, Any]) -> Ending:
    """`candor_ending` of config.json."""
    ending = raw.get("candor_ending", "template")
    if ending not in get_args(Ending):
        raise ModelRefused(f"candor_ending in config.json must be one of {get_args(Ending)}")
    return cast(Ending, ending)


def refuse_other_architectures(config: PretrainedConfig) -> None:
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


def max_length_of(raw: Mapping[str, Any], text_config: PretrainedConfig) -> int:
    """The window in tokens."""
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
