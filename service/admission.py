"""Whether a submission may join the queue: by tokens, predicted wait and deadline. No clock, no
queue.

Not by count: trainers post thousands of single items at once. The rate is learnt from the batches
that were served, so the predicted wait follows the model and the machine without a setting.
"""

from __future__ import annotations

import math

from service.errors import CandorError, DeadlineExceeded, Overloaded

MAX_RETRY_AFTER_S = 60

NEWEST_SHARE = 0.2
"""Weight of the newest batch in the average rate; a change is learnt in about ten batches."""


class Admission:
    """Bounds on the queue, and the rate at which it empties.

    Args:
        max_queue_tokens: bound on the tokens that wait.
        max_queue_wait_s: bound on the predicted wait.
    """

    def __init__(self, max_queue_tokens: int, max_queue_wait_s: float) -> None:
        self._max_queue_tokens = max_queue_tokens
        self._max_queue_wait_s = max_queue_wait_s
        self._tokens_per_s: float | None = None

    def learn(self, num_tokens: int, seconds: float) -> None:
        """A batch of `num_tokens` (as sent, without padding) took the model `seconds`."""
        rate = num_tokens / max(seconds, 1e-6)
        if self._tokens_per_s is not None:
            rate = (1 - NEWEST_SHARE) * self._tokens_per_s + NEWEST_SHARE * rate
        self._tokens_per_s = rate

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
        rate = self._tokens_per_s or math.inf
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
