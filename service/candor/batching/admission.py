"""Decides whether a submission may join the queue: by tokens, predicted wait and deadline. This
module has no clock and no queue.

The number of items is not bounded, because trainers post thousands of single items at once. The
rate is learnt from the batches served, so the predicted wait follows the model and the machine
without a setting. The rate is the total of tokens over the total of seconds, so that each batch
weighs as many tokens as it held: a forward of few tokens takes far longer per token than a full
forward.
"""

from __future__ import annotations

import math

from candor.errors import CandorError, DeadlineExceeded, Overloaded

MAX_RETRY_AFTER_S = 60

PAST_WEIGHT = 0.8
"""Factor on the past totals when a batch is added. A change of rate is learnt in ten to twenty
batches."""

MIN_SERVED_TOKENS = 2048
"""Tokens to serve before any wait is predicted. The check at start-up alone would predict a far
slower model."""

MAX_SLOWDOWN = 4.0
"""Longest batch time that is believed, as a multiple of the predicted time. A suspended process or
a migrated virtual machine would otherwise report minutes, and refuse callers for twenty batches."""


class Admission:
    """Bounds on the queue, and the rate at which it empties.

    Args:
        max_queue_tokens: bound on the tokens that wait.
        max_queue_wait_s: bound on the predicted wait.
    """

    def __init__(self, max_queue_tokens: int, max_queue_wait_s: float) -> None:
        self._max_queue_tokens = max_queue_tokens
        self._max_queue_wait_s = max_queue_wait_s
        self._tokens = 0.0
        self._seconds = 0.0
        self._num_served = 0

    def learn(self, num_tokens: int, seconds: float) -> None:
        """Adds a batch of `num_tokens` (as sent, without padding) that took `seconds`."""
        if self._num_served >= MIN_SERVED_TOKENS and self._seconds > 0:
            predicted = num_tokens * self._seconds / self._tokens
            seconds = min(seconds, MAX_SLOWDOWN * predicted)
        self._tokens = PAST_WEIGHT * self._tokens + num_tokens
        self._seconds = PAST_WEIGHT * self._seconds + seconds
        self._num_served += num_tokens

    def refusal(
        self, num_tokens: int, num_queued: int, num_in_flight: int, remaining_s: float
    ) -> CandorError | None:
        """The error for a submission that may not join, or None.

        An empty queue always admits, because the submission goes into the very next batch. So
        neither a rate learnt from an unusual batch nor a submission larger than the queue can block
        the server for good.

        Args:
            num_tokens: tokens of the submission.
            num_queued: tokens that wait.
            num_in_flight: tokens in the model now.
            remaining_s: time to the submission's deadline; infinite if it has none.
        """
        if remaining_s <= 0:
            return DeadlineExceeded("the deadline had passed when the request arrived")
        if num_queued == 0:
            return None
        has_rate = self._num_served >= MIN_SERVED_TOKENS
        rate = self._tokens / max(self._seconds, 1e-6) if has_rate else math.inf
        excess = num_queued + num_tokens - self._max_queue_tokens
        if excess > 0:
            return Overloaded("the queue is full", retry_after_s=_retry_after(excess / rate))
        wait_s = (num_queued + num_in_flight) / rate
        limit_s = min(self._max_queue_wait_s, remaining_s)
        if wait_s > limit_s:
            return Overloaded(
                "the predicted wait is over the limit", retry_after_s=_retry_after(wait_s - limit_s)
            )
        return None


def _retry_after(seconds: float) -> int:
    """Whole seconds for `Retry-After`; at least 1, so that no caller retries at once."""
    return min(MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))
