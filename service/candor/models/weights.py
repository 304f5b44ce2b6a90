"""The weights: a trunk that transformers builds, and the head that Candor reads itself.

If the head is missing the model is refused, because transformers would draw a random head and the
server would serve it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from candor.models.causes import cause_of
from candor.models.checkpoint import ModelRefused, Tensors, read_tensors
from candor.models.heads import NEVER_LOADED, SCORE_WEIGHT, find_head, head_names, load_head


def load_weights(
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


def load_head_only(
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
