"""Tiny random reward models and a real tokeniser, built in memory: nothing is downloaded.

The models have the real architectures (2 or 3 layers, hidden 32) and random weights drawn under a
fixed seed. The tokeniser is a byte-level BPE trained on the sentences below, so any text is
tokenisable, frequent words are one token and an emoji is several.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)

VOCAB_SIZE = 320
BOS, EOS, START, END = "<s>", "</s>", "<|im_start|>", "<|im_end|>"

TURNS = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""A ChatML-like template: what it renders ends in a newline after the end token."""

ALTERNATING = (
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user and assistant') }}"
    "{% endif %}{% endfor %}" + TURNS
)
"""The same, refusing conversations whose roles do not alternate (as Llama 2's and Gemma's do)."""

STRIPPING = TURNS.replace("message['content']", "message['content'] | trim")
"""The same, stripping each turn's content (as Llama 3's does)."""

_SENTENCES = (
    "The poem is about the sea and the poem is good.",
    "What do you think of this poem? I think it is very good, thank you.",
    "user assistant system the answer is that the sea is blue",
)


def tiny_tokenizer(
    *, bos: bool = False, template_bos: bool = False, template: str | None = TURNS
) -> PreTrainedTokenizerBase:
    """A byte-level fast tokeniser of `VOCAB_SIZE` entries at most.

    Args:
        bos: the tokeniser itself puts `<s>` in front (a post-processor), as Llama's does.
        template_bos: the chat template writes `<s>` in front.
        template: the chat template, or None for a tokeniser without one.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[BOS, EOS, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A",
            pair=f"{BOS} $A {BOS} $B",
            special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=END, pad_token=EOS
    )
    if template is not None:
        fast.chat_template = ("{{ bos_token }}" if template_bos else "") + template
    return fast


def _dimensions(num_layers: int, **overrides: Any) -> dict[str, Any]:
    """Configuration that every family shares; the pad token is the tokeniser's `</s>`."""
    return {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "num_labels": 1,
        "bos_token_id": 0,
        "eos_token_id": 3,
        "pad_token_id": 1,
    } | overrides


def _build(kind: type[PreTrainedModel], config: Any, seed: int) -> PreTrainedModel:
    """Weights large enough that different texts get clearly different scores."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                scale = 0.3 if "embed" in name or name == "score.weight" else 0.15
                torch.nn.init.normal_(parameter, std=scale)
    return model.float().eval()


def tiny_llama(num_layers: int = 2, seed: int = 0, **config: Any) -> PreTrainedModel:
    return _build(
        LlamaForSequenceClassification, LlamaConfig(**_dimensions(num_layers, **config)), seed
    )


def tiny_qwen2(num_layers: int = 2, seed: int = 1, **config: Any) -> PreTrainedModel:
    return _build(
        Qwen2ForSequenceClassification, Qwen2Config(**_dimensions(num_layers, **config)), seed
    )


def tiny_qwen3(num_layers: int = 2, seed: int = 2, **config: Any) -> PreTrainedModel:
    dimensions = _dimensions(num_layers, **({"head_dim": 8} | config))
    return _build(Qwen3ForSequenceClassification, Qwen3Config(**dimensions), seed)


def tiny_mistral(num_layers: int = 2, seed: int = 3, **config: Any) -> PreTrainedModel:
    return _build(
        MistralForSequenceClassification, MistralConfig(**_dimensions(num_layers, **config)), seed
    )


def tiny_gemma2(num_layers: int = 3, seed: int = 4, **config: Any) -> PreTrainedModel:
    """Scaled embeddings, attention soft-capping, a sliding window on every other layer."""
    dimensions = _dimensions(num_layers, head_dim=8, query_pre_attn_scalar=8, sliding_window=16)
    dimensions |= config
    return _build(Gemma2ForSequenceClassification, Gemma2Config(**dimensions), seed)


def save_tiny(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Writes model (safetensors) and tokeniser into `folder`, laid out like a hub checkpoint."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_policy() -> PreTrainedModel:
    """A causal language model to train."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=3,
        pad_token_id=1,
        initializer_range=0.15,
    )
    return LlamaForCausalLM(config)
