"""A tiny random reward model of every architecture that docs/models.md lists as served, saved as
a real checkpoint, and what transformers says about a text alone.

Windows, chunks and rotary boundaries are so short that the tests' texts cross them.
"""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from candor.item import Item
from tests.tiny import tiny_tokenizer

_BASE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "num_labels": 1,
    "bos_token_id": 0,
    "eos_token_id": 3,
    "pad_token_id": 1,
}
_GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
_LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "num_key_value_heads": 4,
}
_EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
}
_GROUPS = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
_DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "head_dim": 8,
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
}
_MAMBA = {"mamba_d_state": 4, "mamba_d_conv": 4, "mamba_expand": 2}
_MIXED_WINDOW = {
    "head_dim": 8,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_SOME_WINDOWS = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 3.0, 4.0, 5.0],
    "original_max_position_embeddings": 64,
}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "arcee": {},
    "axk1": {**_LATENT, **_EXPERTS, **_GROUPS},
    "axk2": {
        **(_LATENT | _EXPERTS | _GROUPS),
        "index_topk": 24,
        "index_head_dim": 16,
        "index_n_heads": 2,
    },
    "biogpt": {},
    "bloom": {"n_head": 4, "n_layer": 3},
    "cohere_compass_text": {
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [1, 1, 2],
            },
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [1, 1, 2],
            },
        },
    },
    "deepseek_v2": {**_LATENT, **_EXPERTS, "first_k_dense_replace": 1},
    "deepseek_v3": {**_LATENT, **_EXPERTS, **_GROUPS},
    "diffllama": {},
    "doge": {"keep_window_size": 24},
    "exaone4": {"sliding_window": 16, "sliding_window_pattern": 2},
    "falcon": {},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16},
    "gemma3_text": {**_MIXED_WINDOW, "query_pre_attn_scalar": 8},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "gpt-sw3": _GPT2,
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1], [["global"], 1]],
        "window_size": 16,
        "num_layers": 3,
        "num_heads": 4,
    },
    "gpt_neox": {},
    "gpt_oss": {**_EXPERTS, **_MIXED_WINDOW},
    "gptj": {**_GPT2, "rotary_dim": 4},
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {**_EXPERTS, "head_dim": 8, "moe_topk": 2},
    "jamba": {
        **_EXPERTS,
        **_MAMBA,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_dt_rank": 4,
    },
    "jetmoe": {**_EXPERTS, "kv_channels": 8},
    "llama": {},
    "minicpm3": _LATENT,
    "minimax": {**_EXPERTS, "head_dim": 8, "block_size": 16},
    "ministral": _MIXED_WINDOW,
    "ministral3": {"head_dim": 8, "rope_parameters": {**_YARN, "llama_4_scaling_beta": 0.1}},
    "mistral": {"sliding_window": 16},
    "mistral4": {**(_LATENT | _EXPERTS | _GROUPS), "head_dim": 16, "qk_head_dim": 16},
    "mixtral": {**_EXPERTS, "sliding_window": 16},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 256},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": _MIXED_WINDOW,
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "persimmon": {},
    "phi": {},
    "phi3": {
        "rope_parameters": LONGROPE,
        "original_max_position_embeddings": 64,
        "sliding_window": 48,
    },
    "phimoe": {
        **_EXPERTS,
        "rope_parameters": {**LONGROPE, "short_mscale": 1.1, "long_mscale": 1.3},
    },
    "qwen2": _SOME_WINDOWS,
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3": {**_SOME_WINDOWS, "head_dim": 8},
    "qwen3_5_text": _DELTA,
    "qwen3_moe": {**_EXPERTS, "head_dim": 8},
    "qwen3_next": {**_DELTA, **_EXPERTS, "shared_expert_intermediate_size": 16},
    "seed_oss": {"head_dim": 8},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {"sliding_window": 16},
    "zamba": {
        **_MAMBA,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "n_mamba_heads": 2,
        "mamba_dt_rank": 4,
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "num_key_value_heads": 4,
    },
    "zamba2": {
        **_MAMBA,
        "mamba_ngroups": 1,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "layers_block_type": ["mamba", "hybrid", "mamba"],
        "num_mem_blocks": 1,
        "adapter_rank": 4,
        "num_key_value_heads": 4,
        "chunk_size": 16,
    },
}
"""By model type: what differs from `_BASE`."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, dynamic": ("llama", {"rope_parameters": _DYNAMIC, "max_position_embeddings": 64}),
    "llama, longrope": ("llama", {"rope_parameters": LONGROPE}),
    "llama, yarn": ("llama", {"rope_parameters": _YARN}),
    "hunyuan_v1_dense, dynamic": (
        "hunyuan_v1_dense",
        {
            "head_dim": 8,
            "rope_parameters": {**_DYNAMIC, "alpha": 100.0},
            "max_position_embeddings": 64,
        },
    ),
    "gemma3_text, longrope by layer type": (
        "gemma3_text",
        {
            **_MIXED_WINDOW,
            "query_pre_attn_scalar": 8,
            "rope_parameters": {
                "full_attention": LONGROPE,
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
            },
        },
    ),
    "gemma3_text, bidirectional": (
        "gemma3_text",
        {**_MIXED_WINDOW, "query_pre_attn_scalar": 8, "use_bidirectional_attention": True},
    ),
    "falcon, alibi": ("falcon", {"alibi": True}),
    "llama, attention bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "phi3, no window": ("phi3", {"rope_parameters": LONGROPE, "sliding_window": None}),
}
"""Other configurations of the same architectures: name -> model type, what differs from `_BASE`."""


def save_architecture(folder: Path, model_type: str, config: dict[str, Any]) -> Path:
    """Random weights large enough that different texts get clearly different scores."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        made = CONFIG_MAPPING[model_type](**copy.deepcopy(_BASE | config))
        model: Any = AutoModelForSequenceClassification.from_config(made)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                loud = "emb" in name or "wte" in name or name == "score.weight"
                torch.nn.init.normal_(parameter, std=0.3 if loud else 0.15)
    model.float().eval().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def items(seed: int = 0) -> list[Item]:
    """Groups of responses whose texts lie on both sides of 16, 24, 48 and 64 tokens; two of one
    length. No text holds the pad id, which transformers' own head looks for."""
    draw = random.Random(seed)

    def some(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(2, 320) for _ in range(count))

    short, long = some(12), some(40)
    texts = [short + some(n) for n in (3, 6, 6)]
    texts += [long + some(n) for n in (4, 23, 24, 25, 61)]
    starts = [len(short)] * 3 + [len(long)] * 5
    return [
        Item(ids, start, len(ids) - 1 if len(ids) - start > 3 else len(ids))
        for ids, start in zip(texts, starts, strict=True)
    ]


class Fresh:
    """transformers' own model, as new for every text, with its plain (eager) attention."""

    def __init__(self, folder: Path) -> None:
        self._model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            folder, attn_implementation="eager"
        )

    @torch.inference_mode()
    def alone(self, item: Item) -> tuple[float, tuple[Tensor, ...]]:
        """R, and the hidden states [tokens, hidden] at every index."""
        model = copy.deepcopy(self._model)
        out = model(
            input_ids=torch.tensor([item.token_ids]), output_hidden_states=True, use_cache=False
        )
        return float(out.logits[0, 0]), tuple(hidden[0] for hidden in out.hidden_states)
