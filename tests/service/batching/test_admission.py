"""Who may join the queue, and the `Retry-After` of a refused caller."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.batching.admission import (
    MAX_RETRY_AFTER_S,
    MIN_SERVED_TOKENS,
    UNKNOWN_RETRY_AFTER_S,
    Admission,
)
from candor.errors import DeadlineExceeded, Overloaded


def admission(*, rate: float | None = None, max_tokens: int = 1000) -> Admission:
    found = Admission(max_tokens)
    if rate is not None:
        found.learn(int(rate * 300), 300.0)
    return found


def test_tokens_up_to_the_bound_are_admitted_and_one_more_is_not() -> None:
    assert admission().refusal(400, 600, 0, math.inf) is None
    assert isinstance(admission().refusal(401, 600, 0, math.inf), Overloaded)


def test_an_empty_queue_admits_even_a_submission_larger_than_the_bound() -> None:
    assert admission(rate=10).refusal(5000, 0, 5000, math.inf) is None


def test_a_full_queue_says_when_what_waits_now_is_scored() -> None:
    refusal = admission(rate=10).refusal(450, 600, 100, math.inf)
    assert isinstance(refusal, Overloaded)
    assert refusal.retry_after_s == 70
    unknown = admission().refusal(450, 600, 100, math.inf)
    assert unknown is not None
    assert unknown.retry_after_s == UNKNOWN_RETRY_AFTER_S


@pytest.mark.parametrize("remaining_s", [91.0, 600.0, math.inf])
def test_no_wait_is_too_long_for_a_caller_who_waits_longer(remaining_s: float) -> None:
    """A bound of its own on the wait, 90 s, refused callers with a deadline of 600 s."""
    slow = admission(rate=10)
    assert slow.refusal(10, 600, 300, remaining_s) is None
    assert isinstance(slow.refusal(10, 600, 300, 90.9), Overloaded)


def test_the_predicted_wait_counts_what_waits_what_is_in_the_model_and_the_request() -> None:
    slow = admission(rate=10)
    for tokens, queued, in_flight in ((300, 100, 200), (1, 300, 299), (1, 1, 598)):
        assert slow.refusal(tokens, queued, in_flight, 60.0) is None
        refusal = slow.refusal(tokens, queued, in_flight, 59.9)
        assert isinstance(refusal, Overloaded)
        assert refusal.retry_after_s == math.ceil((queued + in_flight) / 10)
        assert "about 60 s" in refusal.message


def test_no_wait_is_predicted_before_anything_was_measured() -> None:
    assert admission().refusal(1, 900, 10**9, 0.001) is None


def test_a_deadline_sooner_than_the_predicted_wait_is_refused_at_once() -> None:
    assert admission(rate=10).refusal(1, 600, 0, 61.0) is None
    assert isinstance(admission(rate=10).refusal(1, 600, 0, 59.0), Overloaded)


@pytest.mark.parametrize("remaining_s", [0.0, -1.0])
def test_a_deadline_that_has_passed_is_named_so(remaining_s: float) -> None:
    assert isinstance(admission().refusal(1, 0, 0, remaining_s), DeadlineExceeded)


def test_the_rate_follows_a_change_of_load() -> None:
    changing = admission(rate=10)
    for _ in range(40):
        changing.learn(1000, 1.0)
    assert changing.refusal(1, 900, 80_000, 90.0) is None
    assert admission(rate=10).refusal(1, 900, 80_000, 90.0) is not None


def test_a_small_slow_batch_says_little_of_a_full_one() -> None:
    """Such a batch is the check at start-up: it has few tokens, and the first forward is the
    slowest."""
    found = admission()
    found.learn(40, 4.0)
    assert found.refusal(1, 900, 5000, 90.0) is None  # at that batch's rate: 590 s
    found.learn(4000, 10.0)
    assert found.refusal(1, 900, 5000, 90.0) is None
    # Enough batches as slow as the first are believed.
    for _ in range(60):
        found.learn(40, 4.0)
    assert found.refusal(1, 900, 5000, 90.0) is not None


def test_one_batch_during_which_the_process_slept_locks_no_door() -> None:
    """A benchmark that stops servers between measurements saw 503 for the next 35 callers."""
    found = admission(rate=1000)
    for _ in range(20):
        found.learn(1000, 1.0)
    found.learn(100, 130.0)
    assert found.refusal(1, 900, 30_000, 90.0) is None  # at the measured time: 130 s and more
    # A server that has become that slow is believed.
    for _ in range(10):
        found.learn(100, 130.0)
    assert found.refusal(1, 900, 30_000, 90.0) is not None


def test_a_slow_first_batch_is_forgotten_when_the_model_turns_out_to_be_fast() -> None:
    """The first forwards of some models compile kernels for a minute."""
    found = admission()
    found.learn(8000, 60.0)
    assert found.refusal(1, 900, 50_000, 120.0) is not None  # at that batch's rate: 382 s
    for _ in range(3):
        found.learn(8000, 0.4)
    assert found.refusal(1, 900, 50_000, 120.0) is None
    predicted = found.predicted_s(8000)
    assert predicted is not None
    assert predicted < 1.0


@given(
    seconds=st.floats(min_value=0, max_value=1e9),
    queued=st.integers(min_value=1, max_value=10**12),
)
def test_retry_after_is_always_a_whole_number_of_seconds_in_range(
    seconds: float, queued: int
) -> None:
    found = Admission(10)
    found.learn(MIN_SERVED_TOKENS, seconds)
    refusal = found.refusal(10, queued, 0, math.inf)
    assert refusal is not None
    assert isinstance(refusal.retry_after_s, int)
    assert 1 <= refusal.retry_after_s <= MAX_RETRY_AFTER_S
