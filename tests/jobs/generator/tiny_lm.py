"""A tiny random causal LM of the Llama family, for the generator's tests."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny import VOCAB_SIZE


def tiny_lm(seed: int = 0, scale: float = 0.3, max_positions: int = 256) -> LlamaForCausalLM:
    """2 layers, hidden 32, random weights large enough that the next token is no uniform draw."""
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_positions,
        bos_token_id=0,
        eos_token_id=3,
        pad_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=scale)
    return model.float().eval()
