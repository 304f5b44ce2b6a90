"""Contexts kept between batches: the same numbers, fewer tokens, a bounded size.

Tolerance: 1e-5 in float32, because the same sums are computed in another order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from candor.engines.packed import PackedEngine
from candor.engines.prefix_cache import MIN_TOKENS, PrefixCache, cacheable_context
from candor.forward import native
from candor.item import Item
from tests.service.engines.material import (
    FAMILIES,
    POOLINGS,
    assert_equal,
    grouped_items,
    make_probes,
)
from tests.tiny import tiny_llama, tiny_mistral

TOLERANCE = 1e-5
ROOM = 10**8


def with_and_without(model: PreTrainedModel, max_bytes: int = ROOM) -> tuple[PackedEngine, ...]:
    """Two engines over one model, so that both run the same attention."""
    probes = make_probes(model, POOLINGS)
    cache = PrefixCache(max_bytes)
    cached = PackedEngine(model, probes, device="cpu", prefix_cache=cache)
    return cached, PackedEngine(model, probes, device="cpu")


def cache_of(engine: PackedEngine) -> PrefixCache:
    assert engine._prefix_cache is not None
    return engine._prefix_cache


def some(draw: random.Random, count: int) -> tuple[int, ...]:
    return tuple(draw.randrange(320) for _ in range(count))


def late_rows(seed: int = 0) -> list[list[Item]]:
    """Batches of one group: two responses, then single responses that come later, then responses
    to the next turn."""
    draw = random.Random(seed)
    context = some(draw, 60)

    def row(before: tuple[int, ...], length: int) -> Item:
        return Item(before + some(draw, length + 2), len(before), len(before) + length)

    turn = context + some(draw, 40)
    return [
        [row(context, 9), row(context, 17)],
        [row(context, 12)],
        [row(context, 5), row(context, 30), row(turn, 8)],
        [row(turn, 9), row(context, 11)],
    ]


@pytest.fixture(params=["native", "torch"])
def attention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(native, "kernel", lambda: None)


@pytest.mark.usefixtures("attention")
@pytest.mark.parametrize("family", FAMILIES)
def test_late_rows_get_the_same_scores_for_fewer_tokens(
    family: Callable[[], PreTrainedModel],
) -> None:
    cached, plain = with_and_without(family())
    computed = []
    for items in late_rows():
        found, expected = cached.score(items), plain.score(items)
        assert_equal(found.scores, expected.scores, TOLERANCE)
        computed.append((found.num_computed_tokens, expected.num_computed_tokens))
    # The context's 60 tokens are computed once, and so are the next turn's 40.
    assert computed == [(90, 90), (14, 74), (89, 149), (24, 124)]
    cache = cache_of(cached)
    assert (len(cache), cache.num_hits, cache.num_saved_tokens) == (2, 3, 60 + 60 + 100)


@pytest.mark.parametrize("window", [4, 33])
def test_a_sliding_window_counts_back_over_a_known_context(window: int) -> None:
    cached, plain = with_and_without(tiny_mistral(sliding_window=window))
    for items in late_rows(1):
        assert_equal(cached.score(items).scores, plain.score(items).scores, TOLERANCE)
    assert cache_of(cached).num_saved_tokens > 0


_CACHED, _PLAIN = with_and_without(tiny_llama())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 5), st.integers(0, 3))
def test_random_groups_in_random_batches(seed: int, groups: int, size: int, room: int) -> None:
    """The cache's size varies, so that contexts are added and dropped."""
    _CACHED._prefix_cache = PrefixCache(room * 40_000)
    items = grouped_items(seed, groups, size)
    draw = random.Random(seed)
    while items:
        batch = items[: draw.randint(1, 4)]
        items = items[len(batch) :]
        assert_equal(_CACHED.score(batch).scores, _PLAIN.score(batch).scores, TOLERANCE)
        assert cache_of(_CACHED).num_bytes <= room * 40_000


def test_what_is_read_is_computed_although_it_lies_in_a_known_context() -> None:
    """A response inside another item's context, a text that equals a context, and equal ids with
    different spans."""
    draw = random.Random(3)
    context = some(draw, 64)
    cached, plain = with_and_without(tiny_llama())
    cached.score([Item(context + some(draw, 5), 64, 69)])
    awkward = [
        Item(context + some(draw, 3), 40, 66),
        Item(context, 63, 64),
        Item(context, 10, 20),
        Item((*context, 7, 8), 64, 66),
        Item((*context, 7, 8), 3, 66),
        Item((*context, 7, 8), 65, 66),
    ]
    for items in ([one] for one in awkward):
        assert_equal(cached.score(items).scores, plain.score(items).scores, TOLERANCE)
    assert_equal(cached.score(awkward).scores, plain.score(awkward).scores, TOLERANCE)


def test_control_the_known_states_are_what_is_looked_at() -> None:
    cached, plain = with_and_without(tiny_llama())
    first, second, *_ = late_rows()
    cached.score(first)
    (prefix,) = cache_of(cached)._prefixes.values()
    for layer, (key, value) in prefix.layers.items():
        prefix.layers[layer] = key, -value
    found, expected = cached.score(second).scores, plain.score(second).scores
    assert abs(found[0].base_reward - expected[0].base_reward) > 1000 * TOLERANCE


def test_the_least_recently_used_context_leaves_and_the_limit_holds() -> None:
    draw = random.Random(5)
    contexts = [some(draw, 50) for _ in range(3)]
    # 2 layers, keys and values, 2 heads of 8, float32
    size = 50 * 2 * 2 * 2 * 8 * 4
    cached, _ = with_and_without(tiny_llama(), max_bytes=2 * size)
    cache = cache_of(cached)

    def score(number: int) -> int:
        item = Item(contexts[number] + some(draw, 6), 50, 56)
        return cached.score([item]).num_computed_tokens

    assert [score(number) for number in (0, 1, 0, 2, 0, 1)] == [56, 56, 6, 56, 6, 56]
    assert (cache.num_bytes, len(cache), cache.num_evictions) == (2 * size, 2, 2)
    cache.clear()
    assert (cache.num_bytes, len(cache)) == (0, 0)
    assert score(0) == 56


def test_no_more_is_kept_of_one_forward_than_there_is_room_for() -> None:
    draw = random.Random(6)
    size = 50 * 256
    cached, _ = with_and_without(tiny_llama(), max_bytes=2 * size)
    items = [Item(some(draw, 56), 50, 56) for _ in range(20)]
    cached.score(items[:1])
    strangers = [Item(some(draw, 56), 50, 56) for _ in range(20)]
    assert cache_of(cached).look_up(strangers).to_keep.keys() == {0, 1}
    short = Item(some(draw, MIN_TOKENS), MIN_TOKENS - 1, MIN_TOKENS)
    assert cache_of(cached).look_up([short]).to_keep == {}


def test_threads_share_it() -> None:
    cached, plain = with_and_without(tiny_llama(), max_bytes=60_000)
    batches: Sequence[list[Item]] = [items for seed in range(8) for items in late_rows(seed)] * 2
    with ThreadPoolExecutor(4) as pool:
        found = [result.scores for result in pool.map(cached.score, batches)]
    for scores, items in zip(found, batches, strict=True):
        assert_equal(scores, plain.score(items).scores, TOLERANCE)
    assert cache_of(cached).num_bytes <= 60_000


def test_a_context_ends_before_the_response_and_before_the_last_token() -> None:
    assert cacheable_context(Item((1, 2, 3, 4), 2, 4)) == Item((1, 2), 0, 1).sort_key
    assert len(cacheable_context(Item((1, 2, 3, 4), 4, 4))) == 4 * 3
