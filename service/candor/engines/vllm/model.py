"""Reward models on vLLM's own decoders: for every token [position, probe 1, ..., probe k, R].

The decoder hands out the residual stream at chosen layers (its EAGLE-3 interface) and every stage
of a pipeline reduces its own to readings at once, so that what travels between stages, and out of
vLLM, is a few float32 numbers a token and never a hidden state. Under tensor parallelism hidden
states are whole on every rank, and each computes the same readings. Runs in vLLM's processes;
nothing of the server is imported but `candor.engines.vllm.plugin`.
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

from candor.engines.vllm.plugin import READERS, RESPONSE_START, handed_out

UPSTREAM = "candor_readings"
"""Readings of earlier pipeline stages, among the tensors that stages hand on."""


class Readings(torch.nn.Module):
    """Linear readings of chosen layers, ordered by layer.

    The file holds `weight` [readings, hidden] and `bias` [readings], float32, and `layer`
    [readings] int64, ascending, in the sense of Hugging Face's `hidden_states`: 0 is the
    embeddings, num_layers the final norm's output. The last reading is R.
    """

    def __init__(self, path: str, device: torch.device) -> None:
        super().__init__()
        tensors = load_file(path)
        self.layers: list[int] = tensors["layer"].tolist()
        self.weight = tensors["weight"].to(device)
        self.bias = tensors["bias"].to(device)

    def before(self, layer: int) -> int:
        """How many readings are of layers up to and with `layer`."""
        return sum(one <= layer for one in self.layers)

    def forward(self, hidden: Tensor, layer: int) -> Tensor:
        """hidden [T, hidden], any float dtype -> [T, readings of this layer] float32."""
        own = slice(self.before(layer - 1), self.before(layer))
        return linear(hidden.float(), self.weight[own], self.bias[own])


class ResponseReadings(Pooler):  # type: ignore[misc]  # vLLM is not typed here
    """Keeps a request's rows from `RESPONSE_START` on, over all chunks of its prefill.

    Every row carries its position, so whoever takes them can tell that none is missing, and a
    request that was preempted and begun again gives some twice, alike.
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
            # A copy: the next step writes over the buffer.
            chunks.append(rows[max(0, wanted - (end - len(rows))) :].clone())
            outputs.append(torch.cat(chunks) if finished else None)
            if finished:
                state.clean()
        return outputs


class ReadsLayers(torch.nn.Module):
    """To be mixed in before one of vLLM's decoders: its output becomes `Readings`."""

    model: Any
    set_aux_hidden_state_layers: Any
    make_empty_intermediate_tensors: Any

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = vllm_config.model_config.hf_config
        self._heads = frozenset(config.candor_heads)
        self._top: int = config.num_hidden_layers
        self.readings = Readings(
            os.environ[READERS], torch.device(vllm_config.device_config.device)
        )
        first, last = self.model.start_layer, self.model.end_layer
        self._num_upstream = self.readings.before(first) if first else 0
        self._layers = handed_out(self.readings.layers, first, last, self._top)
        if self._layers:
            self.set_aux_hidden_state_layers(self._layers)
        self._empty_of_stage = self.make_empty_intermediate_tensors
        self.make_empty_intermediate_tensors = self._empty_with_readings

    def _init_pooler(self, vllm_config: Any, prefix: str = "") -> Pooler:
        return ResponseReadings()

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """The trunk's weights; the head is in `Readings` already."""
        trunk = (one for one in weights if one[0] not in self._heads)
        return super().load_weights(trunk)  # type: ignore[misc, no-any-return]

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor | IntermediateTensors:
        """[T, 1 + readings] float32; of a stage that is not the last, what it hands on."""
        output = super().forward(input_ids, positions, intermediate_tensors, inputs_embeds)
        found: list[Tensor] = []
        if self._num_upstream:
            assert intermediate_tensors is not None
            found.append(intermediate_tensors[UPSTREAM])
        if isinstance(output, IntermediateTensors):
            tensors = dict(output.tensors)
            key = self.model.AUX_HIDDEN_STATE_KEY
            found += self._read([tensors.pop(f"{key}{i}") for i in range(len(self._layers))])
            if found:
                tensors[UPSTREAM] = torch.cat(found, dim=1)
            return IntermediateTensors(tensors)
        last, hidden = output if isinstance(output, tuple) else (output, [])
        found += [*self._read(hidden), self.readings(last, self._top)]
        return torch.cat([positions.float()[:, None], *found], dim=1)

    def _read(self, hidden: list[Tensor]) -> list[Tensor]:
        return [self.readings(one, layer) for one, layer in zip(hidden, self._layers, strict=True)]

    def _empty_with_readings(
        self, batch_size: int, dtype: torch.dtype, device: torch.device
    ) -> IntermediateTensors:
        tensors = dict(self._empty_of_stage(batch_size, dtype, device).tensors)
        if self._num_upstream:
            shape = (batch_size, self._num_upstream)
            tensors[UPSTREAM] = torch.zeros(shape, dtype=torch.float32, device=device)
        return IntermediateTensors(tensors)


class CandorLlamaRewardModel(ReadsLayers, as_embedding_model(LlamaForCausalLM)):  # type: ignore[misc]
    """Llama."""


class CandorMistralRewardModel(ReadsLayers, as_embedding_model(MistralForCausalLM)):  # type: ignore[misc]
    """Mistral."""


class CandorQwen2RewardModel(ReadsLayers, as_embedding_model(Qwen2ForCausalLM)):  # type: ignore[misc]
    """Qwen 2."""


class CandorQwen3RewardModel(ReadsLayers, as_embedding_model(Qwen3ForCausalLM)):  # type: ignore[misc]
    """Qwen 3."""
