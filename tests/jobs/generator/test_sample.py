"""Sampling: the model's own distribution, cut where asked, one pass over the prompt."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from candor.jobs.generator.sample import Sample, sample
from tests.jobs.generator.tiny_lm import tiny_lm

PROMPT = [5, 20, 77, 8]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny_lm()


def draw(model: LlamaForCausalLM, **changes: Any) -> list[Sample]:
    settings: dict[str, Any] = {
        "n": 4,
        "max_tokens": 12,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 0,
        "stop_ids": frozenset[int](),
    }
    return sample(model, PROMPT, **(settings | changes))


def next_probs(model: LlamaForCausalLM, ids: list[int], temperature: float = 1.0) -> torch.Tensor:
    with torch.inference_mode():
        return (model(torch.tensor([ids])).logits[0, -1].float() / temperature).softmax(-1)


def test_a_seed_gives_the_same_samples_again_and_another_seed_gives_others(
    model: LlamaForCausalLM,
) -> None:
    assert draw(model, seed=3) == draw(model, seed=3)
    assert draw(model, seed=3) != draw(model, seed=4)
    assert len(set(draw(model, seed=3))) == 4


def test_temperature_0_is_the_models_own_greedy_text(model: LlamaForCausalLM) -> None:
    ids = torch.tensor([PROMPT])
    greedy = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=12,
        eos_token_id=None,
    )[0, len(PROMPT) :].tolist()
    assert [list(drawn.token_ids) for drawn in draw(model, temperature=0.0)] == [greedy] * 4
    assert list(draw(model, temperature=1.0)[0].token_ids) != greedy


def test_every_token_is_a_likely_one_given_all_before_it(model: LlamaForCausalLM) -> None:
    """With top_p just above nothing each token must be the argmax after its own row's prefix."""
    for drawn in draw(model, top_p=1e-6):
        ids = list(PROMPT)
        for token in drawn.token_ids:
            assert token == int(next_probs(model, ids).argmax())
            ids.append(token)


def test_rows_continue_their_own_texts(model: LlamaForCausalLM) -> None:
    """Sampled with top_p: no token of any row is beyond the nucleus of that row's own prefix."""
    for drawn in draw(model, n=6, top_p=0.3, seed=1):
        ids = list(PROMPT)
        for token in drawn.token_ids:
            probs = next_probs(model, ids)
            above = float(probs[probs > probs[token] + 1e-5].sum())
            assert above < 0.3
            ids.append(token)
    assert len({drawn.token_ids for drawn in draw(model, n=6, top_p=0.3, seed=1)}) > 1


def test_a_stop_token_ends_its_row_and_no_other(model: LlamaForCausalLM) -> None:
    free = draw(model, n=8)
    assert {drawn.finish_reason for drawn in free} == {"length"}
    assert {len(drawn.token_ids) for drawn in free} == {12}
    stop = free[0].token_ids[5]
    ended = draw(model, n=8, stop_ids=frozenset({stop}))
    for whole, cut in zip(free, ended, strict=True):
        if stop in whole.token_ids:
            assert cut == Sample(whole.token_ids[: whole.token_ids.index(stop)], "stop")
        else:
            assert cut == whole
    assert ended[0].finish_reason == "stop"


def test_a_row_whose_last_allowed_token_is_the_stop_token_has_stopped(
    model: LlamaForCausalLM,
) -> None:
    first = draw(model, n=1, temperature=0.0)[0].token_ids[0]
    stopped = draw(model, n=2, temperature=0.0, max_tokens=1, stop_ids=frozenset({first}))
    assert stopped == [Sample((), "stop")] * 2
    going = draw(model, n=2, temperature=0.0, max_tokens=1, stop_ids=frozenset({first + 1}))
    assert going == [Sample((first,), "length")] * 2


def test_a_row_ends_where_it_is_told_and_the_others_draw_what_they_would(
    model: LlamaForCausalLM,
) -> None:
    whole = draw(model, n=12, max_tokens=10)
    cut = draw(model, n=12, max_tokens=10, ended=lambda ids: ids[-1] % 3 == 0)
    assert len({len(one.token_ids) for one in cut}) > 3  # so rows left the batch on the way
    for uncut, one in zip(whole, cut, strict=True):
        ends = [place for place, token in enumerate(uncut.token_ids) if token % 3 == 0]
        length = ends[0] + 1 if ends else len(uncut.token_ids)
        assert one.token_ids == uncut.token_ids[:length]
        assert one.finish_reason == ("stop" if ends else uncut.finish_reason)


def counts(model: LlamaForCausalLM, n: int, **changes: Any) -> torch.Tensor:
    drawn = Counter(one.token_ids[0] for one in draw(model, n=n, max_tokens=1, **changes))
    return torch.tensor([drawn[token] for token in range(model.config.vocab_size)]).double()


def distance(found: torch.Tensor, probs: torch.Tensor) -> float:
    """Pearson's statistic over cells of 5 expected draws or more (the rest as one cell), as
    standard deviations above its mean."""
    expected = probs.double() * found.sum()
    large = expected >= 5
    observed = torch.cat([found[large], found[~large].sum()[None]])
    wanted = torch.cat([expected[large], expected[~large].sum()[None]])
    freedom = int((wanted > 0).sum()) - 1
    assert (observed[wanted == 0] == 0).all()
    chi = ((observed - wanted)[wanted > 0] ** 2 / wanted[wanted > 0]).sum()
    return float((chi - freedom) / (2 * freedom) ** 0.5)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_tokens_come_as_often_as_the_softmax_says(
    model: LlamaForCausalLM, temperature: float
) -> None:
    found = counts(model, 20_000, temperature=temperature)
    assert distance(found, next_probs(model, PROMPT, temperature)) < 5
    # The same statistic sees another temperature.
    assert distance(found, next_probs(model, PROMPT, temperature * 1.2)) > 20


def test_top_p_draws_from_the_nucleus_alone_in_its_proportions(model: LlamaForCausalLM) -> None:
    probs = next_probs(model, PROMPT)
    ordered, order = probs.sort(descending=True)
    # The smallest set whose mass reaches one half.
    size = int((ordered.cumsum(0) < 0.5).sum()) + 1
    assert 2 < size < 100
    nucleus = torch.zeros_like(probs)
    nucleus[order[:size]] = ordered[:size] / ordered[:size].sum()
    found = counts(model, 20_000, top_p=0.5)
    assert set(found.nonzero().flatten().tolist()) <= set(order[:size].tolist())
    assert found[order[size - 1]] > 0
    assert distance(found, nucleus) < 5


def test_the_prompt_is_passed_through_the_model_once_for_all_rows(
    model: LlamaForCausalLM,
) -> None:
    shapes: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(
        lambda _, args, __: shapes.append(tuple(args[0].shape)), with_kwargs=True
    )
    try:
        draw(model, n=5, max_tokens=4)
    finally:
        hook.remove()
    assert shapes == [(1, len(PROMPT)), (5, 1), (5, 1), (5, 1)]


def test_a_prompts_samples_do_not_depend_on_how_often_it_was_asked_before(
    model: LlamaForCausalLM,
) -> None:
    first = draw(model, seed=9)
    draw(model, seed=10)
    torch.manual_seed(1234)  # the process-wide generator has no say
    assert draw(model, seed=9) == first
