"""Decides whether a submission may join the queue: by tokens and by its own deadline. This module
has no clock and no queue.

A submission is refused if the queue is full, or if it cannot be scored before its own deadline. No
other bound on the wait exists: a trainer that tries five times in five seconds loses the reward if
it is refused, and keeps it if it waits.

The number of items is not bounded, because trainers post thousands of single items at once. The
rate is learnt from the batches served, so the predicted wait follows the model and the machine
without a setting. The rate is the total of tokens over the total of seconds, so that each batch
weighs as many tokens as it held: a forward of few tokens takes far longer per token than a full
forward.
"""

from __future__ import annotations

import math

from candor.errors import CandorError, DeadlineExceeded, Overloaded

MAX_RETRY_AFTER_S = 120
"""Longest `Retry-After`. Callers that leave take their work with them, so the queue may empty far
sooner than predicted; and clients ignore more than this (openai-python)."""

UNKNOWN_RETRY_AFTER_S = 5
"""`Retry-After` while no wait can be predicted."""

PAST_WEIGHT = 0.8
"""Factor on the past totals when a batch is added. A change of rate is learnt in ten to twenty
batches."""

MIN_SERVED_TOKENS = 2048
"""Tokens to serve before any wait is predicted. The check at start-up alone would predict a far
slower model."""

MAX_CHANGE = 4.0
"""Largest change of the rate that one batch can show. A slower batch counts as this much slower: a
suspended process or a migrated virtual machine would otherwise report minutes, and refuse callers
for twenty batches. After a faster batch the past counts as at most this much slower: the first
forwards may have compiled kernels, and would otherwise refuse callers of a fast model."""


class Admission:
    """The bound on the queue, and the rate at which it empties.

    Args:
        max_queue_tokens: bound on the tokens that wait.
    """

    def __init__(self, max_queue_tokens: int) -> None:
        self._max_queue_tokens = max_queue_tokens
        self._tokens = 0.0
        self._seconds = 0.0
        self._num_served = 0

    def learn(self, num_tokens: int, seconds: float) -> None:
        """Adds a batch of `num_tokens` (as sent, without padding) that took `seconds`."""
        if self._num_served >= MIN_SERVED_TOKENS and self._seconds > 0:
            predicted = num_tokens * self._seconds / self._tokens
            seconds = min(seconds, MAX_CHANGE * predicted)
            self._seconds *= min(1.0, MAX_CHANGE * seconds / predicted)
        self._tokens = PAST_WEIGHT * self._tokens + num_tokens
        self._seconds = PAST_WEIGHT * self._seconds + seconds
        self._num_served += num_tokens

    def predicted_s(self, num_tokens: int) -> float | None:
        """Seconds until `num_tokens` are scored; None while the rate is not known."""
        if self._num_served < MIN_SERVED_TOKENS or self._tokens == 0:
            return None
        return num_tokens * self._seconds / self._tokens

    def retry_after_s(self, num_tokens: int) -> int:
        """Whole seconds for `Retry-After`: the time until `num_tokens` are scored, from 1 to
        `MAX_RETRY_AFTER_S`."""
        predicted = self.predicted_s(num_tokens)
        if predicted is None:
            return UNKNOWN_RETRY_AFTER_S
        return max(1, math.ceil(min(predicted, MAX_RETRY_AFTER_S)))

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
        ahead = num_queued + num_in_flight
        if remaining_s <= 0:
            return DeadlineExceeded(
                "the deadline had passed when the request arrived",
                retry_after_s=self.retry_after_s(ahead),
            )
        if num_queued == 0:
            return None
        if num_queued + num_tokens > self._max_queue_tokens:
            return Overloaded("the queue is full", retry_after_s=self.retry_after_s(ahead))
        predicted = self.predicted_s(ahead + num_tokens)
        if predicted is not None and predicted > remaining_s:
            return Overloaded(
                f"the scores would take about {predicted:.0f} s, and the caller waits "
                f"{remaining_s:.0f} s (X-Request-Timeout, else the server's --request-timeout-s)",
                retry_after_s=self.retry_after_s(ahead),
            )
        return None
