"""Whether a submission may join the queue: by tokens, predicted wait and deadline. No clock, no
queue.

Not by count: trainers post thousands of single items at once. The rate is learnt from the batches
that were served, so the predicted wait follows the model and the machine without a setting. It is
tokens over seconds of them all, so that a batch counts for what it held: a forward of a few tokens
takes far longer a token than a full one.
"""

from __future__ import annotations

import math

from candor.errors import CandorError, DeadlineExceeded, Overloaded

MAX_RETRY_AFTER_S = 60

KEPT = 0.8
"""What the past weighs when a batch is added to it; a change is learnt in ten to twenty batches."""

MIN_TOKENS = 2048
"""Served before any wait is predicted: the check at start-up would promise a far slower model."""

MAX_SLOWER = 4.0
"""As what one batch counts that took longer: a process that was suspended, or a virtual machine
that was moved, has a batch of minutes, and would refuse callers until twenty more have gone by."""


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
        """A batch of `num_tokens` (as sent, without padding) took the model `seconds`."""
        if self._num_served >= MIN_TOKENS and self._seconds > 0:
            promised = num_tokens * self._seconds / self._tokens
            seconds = min(seconds, MAX_SLOWER * promised)
        self._tokens = KEPT * self._tokens + num_tokens
        self._seconds = KEPT * self._seconds + seconds
        self._num_served += num_tokens

    def refusal(
        self, num_tokens: int, queued: int, in_flight: int, remaining_s: float
    ) -> CandorError | None:
        """Why `num_tokens` more cannot join, or None.

        An empty queue always admits: what comes goes into the very next batch, so a rate learnt
        from a freak batch, or one submission larger than the queue, can never lock the door for
        good.

        Args:
            num_tokens: of the submission.
            queued: tokens that wait.
            in_flight: tokens in the model now.
            remaining_s: time to the submission's deadline; infinite without one.
        """
        if remaining_s <= 0:
            return DeadlineExceeded("the deadline had passed when the request arrived")
        if queued == 0:
            return None
        known = self._num_served >= MIN_TOKENS
        rate = self._tokens / max(self._seconds, 1e-6) if known else math.inf
        excess = queued + num_tokens - self._max_queue_tokens
        if excess > 0:
            return Overloaded("the queue is full", retry_after_s=_retry_after(excess / rate))
        wait_s = (queued + in_flight) / rate
        limit_s = min(self._max_queue_wait_s, remaining_s)
        if wait_s > limit_s:
            return Overloaded(
                "the predicted wait is over the limit", retry_after_s=_retry_after(wait_s - limit_s)
            )
        return None


def _retry_after(seconds: float) -> int:
    """Whole seconds for `Retry-After`, at least 1 so that nobody comes straight back."""
    return min(MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))
