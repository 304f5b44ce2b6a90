"""Candor's plugin for vLLM: every process of vLLM loads the entry point `vllm.general_plugins`.

`register` tells vLLM the names of Candor's models. vLLM is imported only then, because every vLLM
in the environment loads the entry point, even one that only generates. The models are
`candor.engines.vllm.model`; the server's side is `candor.engines.vllm.engine`.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterable

READINGS_FILE = "CANDOR_VLLM_READERS"
"""Environment variable, set while Candor starts vLLM: the file that
`candor.engines.vllm.model.Readings` loads. vLLM's configuration cannot hold it: the hash of the
configuration names vLLM's compile cache."""

FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""`model_type` of config.json -> vLLM's decoder. tests/service/engines/vllm/test_engine.py compares
each with transformers' own forward, at every layer."""

RESPONSE_START = "candor_response_start"
"""Key in a request's `extra_kwargs`: the first position whose readings are returned."""


def architecture(model_type: str) -> str:
    """vLLM's name for Candor's model on this family's decoder.

    Raises:
        KeyError: the model type is not in `FAMILIES`.
    """
    return "Candor" + FAMILIES[model_type].removesuffix("ForCausalLM") + "RewardModel"


def handed_out(layers: Iterable[int], first: int, last: int, top: int) -> tuple[int, ...]:
    """Those of `layers` whose residual stream comes from blocks [first, last), a pipeline stage.

    The input of a stage's first block is the output of the last block of the stage before, which
    hands it out. Layer `top` is the final norm's output and no residual stream.
    """
    return tuple(
        layer
        for layer in sorted(set(layers))
        if (first < layer <= last or layer == first == 0) and layer < top
    )


def register() -> None:
    """The entry point: tells vLLM where Candor's models are, without loading them."""
    from vllm import ModelRegistry

    for model_type in FAMILIES:
        name = architecture(model_type)
        ModelRegistry.register_model(name, f"candor.engines.vllm.model:{name}")
    if READINGS_FILE in os.environ:
        leave_with_parent()


def leave_with_parent() -> None:
    """Makes a process of vLLM end when the server is killed, so that it frees the GPU."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def leave() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=leave, name="leave-with-parent", daemon=True).start()
