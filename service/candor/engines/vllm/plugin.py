"""What vLLM loads of Candor in every one of its processes (entry point `vllm.general_plugins`): the
names of our models, and a scheduler that keeps the prefix cache away from responses.

Imports vLLM only when called: the entry point is looked at by every vLLM of the environment, also
one that only generates. The models themselves are `candor.engines.vllm.model`, the server's side is
`candor.engines.vllm.engine`.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterable

READERS = "CANDOR_VLLM_READERS"
"""Environment variable, set while Candor starts vLLM: the file that
`candor.engines.vllm.model.Readings` is made of. Not in vLLM's configuration, whose hash names its
compile cache."""

FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""`model_type` of config.json -> the vLLM decoder that runs it. Each is compared with transformers'
own forward, at every layer, in tests/service/engines/vllm/test_engine.py."""

RESPONSE_START = "candor_response_start"
"""Of a request's `extra_kwargs`: the first position whose readings are wanted."""


def architecture(model_type: str) -> str:
    """The name under which vLLM knows our model on this family's decoder.

    Raises:
        KeyError: not one of `FAMILIES`.
    """
    return "Candor" + FAMILIES[model_type].removesuffix("ForCausalLM") + "RewardModel"


def handed_out(layers: Iterable[int], first: int, last: int, top: int) -> tuple[int, ...]:
    """Which of `layers` the blocks from `first` to `last` (exclusive) hand out as residual stream.

    The input of a stage's first block belongs to the stage before, as what left its last block;
    layer `top` is the final norm's output and no residual stream.
    """
    return tuple(
        layer
        for layer in sorted(set(layers))
        if (first < layer <= last or layer == first == 0) and layer < top
    )


def register() -> None:
    """The entry point: tell vLLM where our models are, without loading them."""
    from vllm import ModelRegistry

    for model_type in FAMILIES:
        name = architecture(model_type)
        ModelRegistry.register_model(name, f"candor.engines.vllm.model:{name}")
    if READERS in os.environ:
        leave_with_parent()


def leave_with_parent() -> None:
    """vLLM's processes end when the server is killed, in place of holding the GPU for nobody."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def leave() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=leave, name="leave-with-parent", daemon=True).start()
