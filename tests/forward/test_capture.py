"""Hooked activations against `output_hidden_states=True`, a second path through the same model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    Gemma3TextConfig,
    Gemma3TextForSequenceClassification,
    PreTrainedModel,
)

from candor.forward.batch import right_pad
from candor.forward.capture import (
    CaptureError,
    HiddenStateHooks,
    num_hidden_layers,
    read_hidden_states,
)
from candor.forward.head import decoder, head_logits
from tests.tiny import tiny_gemma2, tiny_llama, tiny_mistral, tiny_qwen2, tiny_qwen3

SEQUENCES = [[5, 6, 7, 8, 9], [10, 11, 12]]


def tiny_gemma3() -> PreTrainedModel:
    torch.manual_seed(5)
    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=16,
        max_position_embeddings=64,
        num_labels=1,
        pad_token_id=0,
    )
    return Gemma3TextForSequenceClassification(config).eval()


MODELS: list[Callable[[], PreTrainedModel]] = [
    tiny_llama,
    tiny_qwen2,
    tiny_qwen3,
    tiny_mistral,
    tiny_gemma2,
    tiny_gemma3,
]


def capture(
    model: nn.Module, layers: list[int], run: Callable[[], object] | None = None
) -> dict[int, Tensor]:
    seen: dict[int, Tensor] = {}

    def reader(layer: int) -> Callable[[Tensor], None]:
        return lambda hidden: seen.__setitem__(layer, hidden.clone())

    input_ids, attention_mask = right_pad(SEQUENCES, "cpu")
    with torch.inference_mode(), read_hidden_states(model, {i: reader(i) for i in layers}):
        if run is None:
            model(input_ids=input_ids, attention_mask=attention_mask)
        else:
            run()
    return seen


def hooks_of(model: nn.Module) -> int:
    """All forward hooks anywhere in the model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_every_index_equals_output_hidden_states(build: Callable[[], PreTrainedModel]) -> None:
    model = build()
    top = num_hidden_layers(model)
    seen = capture(model, list(range(top + 1)))
    input_ids, attention_mask = right_pad(SEQUENCES, "cpu")
    with torch.inference_mode():
        expected = model(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        ).hidden_states
    assert len(expected) == top + 1 == model.config.num_hidden_layers + 1
    for layer in range(top + 1):
        assert torch.equal(seen[layer], expected[layer]), layer
    # The control: neighbours differ, so an index that is off by one would show.
    for layer in range(top):
        assert not torch.allclose(seen[layer], seen[layer + 1], atol=1e-3)


@pytest.mark.parametrize("build", [tiny_gemma2, tiny_gemma3], ids=lambda build: build.__name__)
def test_gemma_index_0_has_the_embedding_scale(build: Callable[[], PreTrainedModel]) -> None:
    model = build()
    embedding = decoder(model).embed_tokens
    assert isinstance(embedding, nn.Embedding)
    raw = embedding.weight[SEQUENCES[0]]
    seen = capture(model, [0])[0][0]
    assert torch.allclose(seen, raw * 32**0.5, rtol=1e-3)
    assert not torch.allclose(seen, raw, rtol=1e-3)


def test_the_last_index_is_after_the_final_norm() -> None:
    model = tiny_llama()
    norm = decoder(model).norm
    assert isinstance(norm, nn.Module)
    before: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda module, args: before.append(args[0].clone()))
    after = capture(model, [2])[2]
    handle.remove()
    assert torch.equal(norm(before[0]), after)
    assert not torch.allclose(before[0], after, atol=1e-3)


def test_it_works_on_a_causal_lm_and_on_a_bare_decoder() -> None:
    config = tiny_llama().config
    causal_lm = AutoModelForCausalLM.from_config(config).eval()
    bare = AutoModel.from_config(config).eval()
    assert capture(causal_lm, [1])[1].shape == capture(bare, [1])[1].shape == (2, 5, 32)


def test_hooks_are_gone_after_a_clean_exit_and_after_an_exception() -> None:
    model = tiny_llama()
    before = hooks_of(model)
    capture(model, [0, 1, 2])
    assert hooks_of(model) == before

    inside = []

    def fail() -> None:
        inside.append(hooks_of(model))
        raise RuntimeError("the forward broke")

    with pytest.raises(RuntimeError, match="the forward broke"):
        capture(model, [0, 1, 2], run=fail)
    assert inside == [before + 4]  # the control: three readers and the count of forwards were on
    assert hooks_of(model) == before


def test_hooks_are_gone_when_a_reader_raises() -> None:
    model = tiny_llama()
    before = hooks_of(model)
    input_ids, _ = right_pad(SEQUENCES, "cpu")

    def broken(hidden: Tensor) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), read_hidden_states(model, {1: broken}):
        model(input_ids=input_ids)
    assert hooks_of(model) == before


def test_no_forward_inside_is_an_error() -> None:
    with pytest.raises(CaptureError, match="0 forwards"):
        capture(tiny_llama(), [1], run=lambda: None)


def test_a_block_that_the_forward_skips_is_an_error() -> None:
    model = tiny_llama()
    model.config.num_hidden_layers = 1  # Llama's forward runs that many of its blocks
    capture(model, [0])
    with pytest.raises(CaptureError, match=r"1: 0"):
        capture(model, [0, 1])


def test_two_forwards_inside_are_both_read() -> None:
    model = tiny_llama()
    calls: list[Tensor] = []
    with torch.inference_mode(), read_hidden_states(model, {1: calls.append}):
        for sequence in SEQUENCES:
            model(input_ids=torch.tensor([sequence]))
    assert [tuple(hidden.shape) for hidden in calls] == [(1, 5, 32), (1, 3, 32)]


def test_threads_that_run_one_model_at_once_each_read_their_own_forward() -> None:
    """Two forwards are made to overlap in the middle: both are at block 1 when either goes on."""
    model = tiny_llama()
    hooks = HiddenStateHooks(model, [0, 1])
    together = threading.Barrier(2, timeout=20)

    def run(sequence: list[int]) -> None:
        model(input_ids=torch.tensor([sequence]))

    expected = [capture(model, [0, 1], run=partial(run, sequence)) for sequence in SEQUENCES]

    def read(sequence: list[int]) -> dict[int, Tensor]:
        seen: dict[int, Tensor] = {}

        def meet(hidden: Tensor) -> None:
            together.wait()
            seen[1] = hidden.clone()

        readers = {0: lambda hidden: seen.__setitem__(0, hidden.clone()), 1: meet}
        with torch.inference_mode(), hooks.read(readers):
            run(sequence)
        return seen

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(read, SEQUENCES))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_control_hooks_without_a_thread_of_their_own_read_the_neighbours_forward() -> None:
    """Why `HiddenStateHooks` exists: one thread's hook fires in every other thread's forward."""
    model = tiny_llama()
    seen: list[int] = []
    handle = decoder(model).register_forward_hook(
        lambda module, args, output: seen.append(threading.get_ident())
    )
    with ThreadPoolExecutor(1) as pool:
        pool.submit(model, input_ids=torch.tensor([SEQUENCES[0]])).result()
    handle.remove()
    assert seen != [threading.get_ident()]
    assert len(seen) == 1


def test_hooks_do_nothing_outside_of_a_read_and_can_be_taken_off() -> None:
    model = tiny_llama()
    before = hooks_of(model)
    hooks = HiddenStateHooks(model, [0, 2])
    assert hooks_of(model) == before + 3
    model(input_ids=torch.tensor([SEQUENCES[0]]))
    seen: list[Tensor] = []
    with hooks.read({0: seen.append}):
        model(input_ids=torch.tensor([SEQUENCES[0]]))
    assert len(seen) == 1
    with pytest.raises(CaptureError, match="1: 0"), hooks.read({1: seen.append}):
        model(input_ids=torch.tensor([SEQUENCES[0]]))
    hooks.remove()
    assert hooks_of(model) == before


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_out_of_range_is_refused_before_any_forward(layer: int) -> None:
    with pytest.raises(ValueError, match=rf"layer {layer} .* 0 to 2"):
        capture(tiny_llama(), [layer], run=lambda: pytest.fail("the forward ran"))


def test_a_model_of_another_layout_is_refused_with_what_was_looked_for() -> None:
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    with pytest.raises(
        ValueError, match=r"BertForSequenceClassification .*embed_tokens/layers/norm"
    ):
        decoder(BertForSequenceClassification(config))


def test_the_head_at_the_last_token_is_the_models_own_logit() -> None:
    model = tiny_llama(pad_token_id=0)
    input_ids, attention_mask = right_pad(SEQUENCES, "cpu")
    with torch.inference_mode():
        hidden = decoder(model)(input_ids=input_ids, attention_mask=attention_mask)[0]
        rewards = head_logits(model, hidden[torch.arange(2), torch.tensor([4, 2])])
        expected = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, 0]
    assert rewards.shape == (2,)
    assert torch.allclose(rewards, expected, atol=1e-6)


def test_the_head_is_applied_in_float32() -> None:
    model = tiny_llama().bfloat16()
    rewards = head_logits(model, torch.full((1, 32), 3.0, dtype=torch.bfloat16))
    assert rewards.dtype == torch.float32
    assert rewards.item() == pytest.approx(3.0 * model.score.weight.float().sum().item(), rel=1e-5)
    assert rewards.item() != rewards.bfloat16().item()  # the control: bfloat16 would round it


def test_a_model_without_a_one_label_head_is_refused() -> None:
    hidden = torch.zeros(1, 32)
    with pytest.raises(ValueError, match="one-label head"):
        head_logits(tiny_llama(num_labels=2), hidden)
    with pytest.raises(ValueError, match="one-label head"):
        head_logits(decoder(tiny_llama()), hidden)
