"""What is remembered, for whom, and that its size is told honestly."""

from __future__ import annotations

import asyncio
import gc
import math
import tracemalloc

import pytest
import torch

from candor.batching.memo import ENTRY_BYTES, READING_BYTES, Memo
from candor.batching.queue import Entry, Submission
from candor.batching.workers import Batch
from candor.errors import NonFiniteScore, Overloaded
from candor.item import Item, Reading, Score
from tests.service.batching.test_batcher import (
    CountingEngine,
    held,
    item,
    queued,
    rewards,
    run,
    serving,
)
from tests.service.serving import BODY, load_tiny, metric, running, tiny_app
from tests.service.serving import score as score_over_http


def score(value: float, probes: int = 1) -> Score:
    return Score(
        value, {f"p{n}": Reading(value + n, value - n, value * 1.5) for n in range(probes)}
    )


def test_the_first_score_of_these_ids_and_this_span_is_given_again() -> None:
    memo = Memo(10_000)
    memo.put(item(1), score(0.25))
    memo.put(item(1), score(0.75))
    assert memo.get(item(1)) == score(0.25)
    ids = item(1).token_ids
    assert memo.get(Item(ids, 8, 10)) is None  # the probes would read another span
    assert memo.get(item(2)) is None
    assert (memo.num_hits, memo.num_misses, len(memo)) == (1, 2, 1)


def test_no_failed_score_and_no_token_logits_are_kept() -> None:
    memo = Memo(10_000)
    memo.put(item(1), score(math.nan))
    memo.put(item(2), Score(1.0, {"p": Reading(math.inf, 0.0, 0.0)}))
    ids = item(3).token_ids
    memo.put(Item(ids, 9, 10, want_tokens=True), score(1.0))
    assert (len(memo), memo.num_bytes) == (0, 0)
    memo.put(item(3), score(1.0))
    assert memo.get(Item(ids, 9, 10, want_tokens=True)) is None


def test_the_least_recently_used_leave_and_the_limit_holds() -> None:
    size = ENTRY_BYTES + READING_BYTES
    memo = Memo(3 * size)
    for marker in range(3):
        memo.put(item(marker), score(marker))
    memo.get(item(0))
    memo.put(item(3), score(3))
    assert [memo.get(item(marker)) is not None for marker in range(4)] == [True, False, True, True]
    assert (memo.num_bytes, memo.num_evictions) == (3 * size, 1)
    memo.clear()
    assert (len(memo), memo.num_bytes) == (0, 0)
    nothing = Memo(size - 1)
    nothing.put(item(1), score(1))
    assert (len(nothing), nothing.num_bytes) == (0, 0)


@pytest.mark.parametrize("probes", [0, 1, 8])
def test_the_bytes_told_are_not_fewer_than_python_takes(probes: int) -> None:
    memo = Memo(10**9)
    items = [item(marker, group=marker) for marker in range(2000)]
    tracemalloc.start()
    for number, one in enumerate(items):
        memo.put(one, score(number + 0.5, probes))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.4 * memo.num_bytes < taken <= memo.num_bytes


def test_an_item_asked_for_again_is_not_computed_again() -> None:
    async def check() -> None:
        engine, memo = CountingEngine(), Memo(100_000)
        async with serving(engine, memo=memo) as batcher:
            first = await batcher.submit([item(1), item(2)], deadline=None)
            again = await batcher.submit([item(2), item(3), item(1)], deadline=None)
            assert rewards(again) == [2.0, 3.0, 1.0]
            assert [one.num_computed_tokens for one in again] == [0, 10, 0]
            assert again[0].forward_s == 0.0
            assert again[0].score is first[1].score
            await batcher.submit([item(1)], deadline=None)
        assert engine.batches == [[1, 2], [3]]
        assert (memo.num_hits, memo.num_misses) == (3, 3)

    run(check())


def test_without_a_memo_everything_is_computed() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine) as batcher:
            for _ in range(2):
                await batcher.submit([item(1)], deadline=None)
        assert engine.batches == [[1], [1]]

    run(check())


def test_an_equal_item_that_waits_is_answered_when_the_first_is() -> None:
    """Also when the first one's caller has left: a client that timed out and asks again."""

    async def check() -> None:
        engine, memo = CountingEngine(), Memo(100_000)
        async with serving(engine, memo=memo) as batcher:
            first = await held(engine, batcher, marker=1)
            tasks = await queued(batcher, [item(1)], [item(2)])
            first.cancel()
            await asyncio.wait([first])
            engine.free.set()
            assert [rewards(await task) for task in tasks] == [[1.0], [2.0]]
        assert engine.batches == [[1], [2]]

    run(check())


def test_a_check_of_the_scores_is_computed_in_any_case() -> None:
    """The sentinel must see what the model says now, not what it said once."""

    async def check() -> None:
        engine, memo = CountingEngine(), Memo(100_000)
        async with serving(engine, memo=memo) as batcher:
            await batcher.submit([item(1)], deadline=None)
            for _ in range(2):
                await batcher.submit([item(1)], deadline=None, fresh=True)
        assert engine.batches == [[1], [1], [1]]
        assert memo.num_hits == 0

    run(check())


def test_a_failed_item_is_tried_again_and_not_remembered() -> None:
    async def check() -> None:
        engine, memo = CountingEngine(), Memo(100_000)
        engine.nan.add(1)
        async with serving(engine, memo=memo) as batcher:
            with pytest.raises(NonFiniteScore):
                await batcher.submit([item(1)], deadline=None)
            engine.nan.clear()
            assert rewards(await batcher.submit([item(1)], deadline=None)) == [1.0]
        assert engine.batches == [[1], [1]]

    run(check())


def test_what_is_known_is_answered_also_when_the_queue_is_full() -> None:
    async def check() -> None:
        engine, memo = CountingEngine(), Memo(100_000)
        async with serving(engine, memo=memo, max_queue_tokens=20) as batcher:
            await batcher.submit([item(1)], deadline=None)
            first = await held(engine, batcher)
            tasks = await queued(batcher, [item(5), item(6)])
            with pytest.raises(Overloaded):
                await batcher.submit([item(7)], deadline=None)
            assert rewards(await batcher.submit([item(1)], deadline=None)) == [1.0]
            engine.free.set()
            await asyncio.gather(first, *tasks)

    run(check())


def test_over_http_a_request_sent_again_computes_nothing_and_says_so() -> None:
    memo = Memo(10**6)
    with running(tiny_app(lambda metrics: load_tiny(metrics, memo=memo))) as url:
        first, again = score_over_http(url), score_over_http(url)
        assert again.json()["results"] == first.json()["results"]
        usage = again.json()["usage"]
        assert usage["num_computed_tokens"] == 0 < first.json()["usage"]["num_computed_tokens"]
        assert usage["num_shared_tokens"] == usage["num_tokens"]
        assert again.json()["timings"]["forward_s"] == 0.0
        assert metric(url, 'candor_memo_items_total{result="hit"}') == 4
        assert metric(url, 'candor_memo_items_total{result="miss"}') == 4
        assert metric(url, "candor_memo_bytes") == memo.num_bytes > 0
        # Other strengths are made of the same scores; token logits are not remembered.
        other = score_over_http(url, BODY | {"penalties": {"sycophancy": {"lambda": 0.0}}})
        assert other.json()["usage"]["num_computed_tokens"] == 0
        assert other.json()["results"] != first.json()["results"]
        tokens = score_over_http(url, BODY | {"include": ["tokens"]})
        assert tokens.json()["usage"]["num_computed_tokens"] > 0


def test_a_model_that_has_gone_wrong_is_seen_in_spite_of_the_memo() -> None:
    """And what it may have said meanwhile is forgotten."""
    memo = Memo(10**6)
    app = tiny_app(lambda metrics: load_tiny(metrics, memo=memo))
    with running(app) as url:
        score_over_http(url)
        assert len(memo) == 4
        rewarder = app.state.rewarder
        model = rewarder.model.model
        with torch.inference_mode():
            model.score.weight.mul_(3.0)
        check = app.state.health.check()
        asyncio.run_coroutine_threadsafe(check, rewarder.batcher._runner.get_loop()).result(20)
        assert app.state.health.status == "wrong_scores"
        assert len(memo) == 0
        assert score_over_http(url).status_code == 503


def test_its_size_does_not_grow_with_the_requests() -> None:
    """And nothing else does: 2,000 requests leave no submission, entry or batch behind."""
    memo = Memo(50 * (ENTRY_BYTES + READING_BYTES))

    def left() -> int:
        gc.collect()
        return sum(type(one) in (Entry, Submission, Batch) for one in gc.get_objects())

    before = left()  # of other tests in this process

    async def check() -> None:
        async with serving(CountingEngine(), memo=memo, workers=2) as batcher:
            for start in range(0, 2000, 100):
                submits = (
                    batcher.submit([item(marker, group=marker % 5)], deadline=None)
                    for marker in range(start, start + 100)
                )
                await asyncio.gather(*submits)
                assert len(memo) == 50
            assert left() - before <= 2  # the last batch of each worker, until its next
            assert (len(batcher._queue), batcher._queue._groups) == (0, {})

    run(check())
    assert memo.num_evictions == 1950
