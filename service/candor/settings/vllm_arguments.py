"""The value of `--vllm-arg`: vLLM's engine arguments, without those that Candor sets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from candor.flags import UsageError

SET_BY_CANDOR = frozenset(
    {
        "additional_config",
        "async_scheduling",
        "convert",
        "dtype",
        "enable_prefix_caching",
        "hf_overrides",
        "max_model_len",
        "model",
        "pipeline_parallel_size",
        "pooler_config",
        "runner",
        "scheduler_cls",
        "tensor_parallel_size",
        "tokenizer",
        "trust_remote_code",
    }
)
"""vLLM's engine arguments that follow from the model, the probes and other flags."""


def parse_vllm_args(texts: Iterable[str]) -> dict[str, Any]:
    """`["block-size=16"]` as `{"block_size": 16}`. A value that is not JSON is a text.

    Raises:
        UsageError: a text that is not NAME=VALUE, or a name that is given twice.
    """
    arguments: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not (name and sign):
            raise UsageError(f"--vllm-arg {text}: write NAME=VALUE, for example block-size=16")
        if name in arguments:
            raise UsageError(f"--vllm-arg {name} is given twice")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value
    return arguments
