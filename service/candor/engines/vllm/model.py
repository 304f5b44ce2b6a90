"""Reward models on vLLM's own decoders: for every token [position, probe 1, ..., probe k, R].

A reading is a linear function of a layer's hidden state: a probe's logit, or R. The decoder hands
out the residual stream at chosen layers (vLLM's EAGLE-3 interface), and every pipeline stage
reduces its own layers to readings at once. So a few float32 numbers per token travel between stages
and out of vLLM, never a hidden state. Under tensor parallelism every rank has complete hidden
states and computes the same readings. This module runs in vLLM's processes and imports nothing of
the server but `candor.engines.vllm.plugin`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import linear
from vllm.model_executor.layers.pooler import Pooler
from vllm.model_executor.models.adapters import as_embedding_model
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.mistral import MistralForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.sequence import IntermediateTensors

from candor.engines.vllm.plugin import READINGS_FILE, RESPONSE_START, handed_out

UPSTREAM_READINGS = "candor_readings"
"""Name of the earlier stages' readings among the tensors that a pipeline stage hands on."""


class Readings(torch.nn.Module):
    """Linear readings of chosen layers, ordered by layer.

    The file holds `weight` [readings, hidden] and `bias` [readings], float32, and `layer`
    [readings] int64, ascending: indices into Hugging Face's `hidden_states`, where 0 is the
    embeddings and num_layers the final norm's output. The last reading is R.
    """

    def __init__(self, path: str, device: torch.device) -> None:
        super().__init__()
        tensors = load_file(path)
        self.layers: list[int] = tensors["layer"].tolist()
        self.weight = tensors["weight"].to(device)
        self.bias = tensors["bias"].to(device)

    def num_up_to(self, layer: int) -> int:
        """How many readings belong to `layer` or to a layer below."""
        return sum(own <= layer for own in self.layers)

    def forward(self, hidden: Tensor, layer: int) -> Tensor:
        """hidden [T, hidden], any float dtype -> [T, readings of this layer] float32."""
        own = slice(self.num_up_to(layer - 1), self.num_up_to(layer))
        return linear(hidden.float(), self.weight[own], self.bias[own])


class ResponseReadings(Pooler):  # type: ignore[misc]  # vLLM is not typed here
    """Collects a request's rows from `RESPONSE_START` on, over all chunks of its prefill.

    Every row carries its position, so the receiver can tell that none is missing. A request that
    was preempted and started again gives some rows twice, with equal numbers.
    """

    def get_supported_tasks(self) -> set[str]:
        return {"token_classify"}

    def forward(self, hidden_states: Tensor, pooling_metadata: Any) -> list[Tensor | None]:
        cursor = pooling_metadata.get_pooling_cursor()
        counts = cursor.num_scheduled_tokens_cpu.tolist()
        outputs: list[Tensor | None] = []
        for rows, end, params, state, finished in zip(
            torch.split(hidden_states, counts),
            cursor.seq_lens_cpu.tolist(),
            pooling_metadata.pooling_params,
            pooling_metadata.pooling_states,
            cursor.get_finished_mask(),
            strict=True,
        ):
            wanted = (params.extra_kwargs or {}).get(RESPONSE_START, 0)
            chunks = state.hidden_states_cache
            # A copy, because the next step overwrites the buffer.
            chunks.append(rows[max(0, wanted - (end - len(rows))) :].clone())
            outputs.append(torch.cat(chunks) if finished else None)
            if finished:
                state.clean()
        return outputs


class ReadsLayers(torch.nn.Module):
    """Mixed in before one of vLLM's decoders, it turns the decoder's output into readings."""

    model: Any
    set_aux_hidden_state_layers: Any
    make_empty_intermediate_tensors: Any

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = vllm_config.model_config.hf_config
        self._heads = frozenset(config.candor_heads)
        self._top: int = config.num_hidden_layers
        self.readings = Readings(
            os.environ[READINGS_FILE], torch.device(vllm_config.device_config.device)
        )
        first, last = self.model.start_layer, self.model.end_layer
        self._num_upstream = self.readings.num_up_to(first) if first else 0
        self._layers = handed_out(self.readings.layers, first, last, self._top)
        if self._layers:
            self.set_aux_hidden_state_layers(self._layers)
        self._empty_of_stage = self.make_empty_intermediate_tensors
        self.make_empty_intermediate_tensors = self._empty_with_readings

    def _init_pooler(self, vllm_config: Any, prefix: str = "") -> Pooler:
        return ResponseReadings()

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Loads the trunk's weights; the head is in `Readings` already."""
        trunk = ((name, tensor) for name, tensor in weights if name not in self._heads)
        return super().load_weights(trunk)  # type: ignore[misc, no-any-return]

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor | IntermediateTensors:
        """[T, 1 + readings] float32; a stage before the last returns the tensors it hands on."""
        output = super().forward(input_ids, positions, intermediate_tensors, inputs_embeds)
        found: list[Tensor] = []
        if self._num_upstream:
            assert intermediate_tensors is not None
            found.append(intermediate_tensors[UPSTREAM_READINGS])
        if isinstance(output, IntermediateTensors):
            tensors = dict(output.tensors)
            key = self.model.AUX_HIDDEN_STATE_KEY
            found += self._read([tensors.pop(f"{key}{i}") for i in range(len(self._layers))])
            if found:
                tensors[UPSTREAM_READINGS] = torch.cat(found, dim=1)
            return IntermediateTensors(tensors)
        last, hidden = output if isinstance(output, tuple) else (output, [])
        found += [*self._read(hidden), self.readings(last, self._top)]
        return torch.cat([positions.float()[:, None], *found], dim=1)

    def _read(self, hidden: list[Tensor]) -> list[Tensor]:
        return [self.readings(h, layer) for h, layer in zip(hidden, self._layers, strict=True)]

    def _empty_with_readings(
        self, batch_size: int, dtype: torch.dtype, device: torch.device
    ) -> IntermediateTensors:
        tensors = dict(self._empty_of_stage(batch_size, dtype, device).tensors)
        if self._num_upstream:
            shape = (batch_size, self._num_upstream)
            tensors[UPSTREAM_READINGS] = torch.zeros(shape, dtype=torch.float32, device=device)
        return IntermediateTensors(tensors)


class CandorLlamaRewardModel(ReadsLayers, as_embedding_model(LlamaForCausalLM)):  # type: ignore[misc]
    """Llama."""


class CandorMistralRewardModel(ReadsLayers, as_embedding_model(MistralForCausalLM)):  # type: ignore[misc]
    """Mistral."""


class CandorQwen2RewardModel(ReadsLayers, as_embedding_model(Qwen2ForCausalLM)):  # type: ignore[misc]
    """Qwen 2."""


class CandorQwen3RewardModel(ReadsLayers, as_embedding_model(Qwen3ForCausalLM)):  # type: ignore[misc]
    """Qwen 3."""
