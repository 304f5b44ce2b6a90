"""The queue in front of the model: one model thread, isolation of failures, drain.

All state belongs to the event loop's thread; the model thread gets a list of items and gives back a
list of outcomes. A batch is whatever waits when the model becomes free
(`service.batch.take_batch`), first in, first out: there is no timer. Deadlines and waits are on the
monotonic clock.

The promise: every `submit` ends, by scores or by an error with a name, on every path.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from service.admission import Admission
from service.batch import BatchResult, Engine, Item, Outcome, Score, score_isolated, take_batch
from service.errors import (
    CandorError,
    DeadlineExceeded,
    Draining,
    EngineFailed,
    NonFiniteScore,
    NotReady,
)


@dataclass(frozen=True, slots=True)
class Scored:
    """One item's score and what it took.

    `queue_s` is from `submit` to the start of the item's batch, `forward_s` the time the model had
    that batch. `num_computed_tokens` is the item's share of the batch's; the shares add up to the
    whole.
    """

    score: Score
    queue_s: float
    forward_s: float
    num_computed_tokens: int


class Observer(Protocol):
    """What the batcher tells metrics and logs, from the event loop's thread."""

    def on_batch(
        self, num_items: int, num_tokens: int, num_computed_tokens: int, forward_s: float
    ) -> None:
        """A batch came back from the model."""
        return

    def on_dequeue(self, queue_s: float) -> None:
        """An item's batch begins."""
        return

    def on_item_error(self, type: str) -> None:
        """An accepted item failed."""
        return

    def on_refused(self, type: str) -> None:
        """A submission was not accepted."""
        return

    def on_gone(self, num: int) -> None:
        """A client left and `num` of its items leave the queue unscored."""
        return


class _NoObserver(Observer):
    """Tells nobody."""


@dataclass(slots=True, eq=False)
class _Submission:
    """The items of one `submit`: those still waiting, and the scores that have come in."""

    waiting: deque[tuple[int, Item]]
    num_items: int
    future: asyncio.Future[list[Scored]]
    deadline: float | None
    queued_at: float
    scored: dict[int, Scored] = field(default_factory=dict)


class Batcher:
    """Feeds one engine from one queue.

    Args:
        engine: called from one dedicated thread, never concurrently.
        max_batch_tokens: budget of one forward, in the engine's own `cost`.
        max_queue_tokens: bound on the tokens that wait.
        max_queue_wait_s: bound on the wait predicted from the tokens in front and the recent rate.
        watchdog_s: a single forward longer than this makes `alive` false.
        observer: told of batches, waits, refusals and failures.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch_tokens: int,
        max_queue_tokens: int,
        max_queue_wait_s: float = 90.0,
        watchdog_s: float = 60.0,
        observer: Observer | None = None,
    ) -> None:
        self._engine = engine
        self._max_batch_tokens = max_batch_tokens
        self._admission = Admission(max_queue_tokens, max_queue_wait_s)
        self._watchdog_s = watchdog_s
        self._observer: Observer = observer or _NoObserver()
        # Submissions with waiting items, oldest first. Ordered by links, so that one leaves from
        # the middle (its client gone) and the front without a scan.
        self._queue: OrderedDict[_Submission, None] = OrderedDict()
        self._in_flight: list[tuple[_Submission, int, Item]] = []
        self._forward_began: float | None = None
        self._draining = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._runner: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="candor-model")
        self._queue_tokens = 0
        self._queue_items = 0

    @property
    def queue_tokens(self) -> int:
        """Tokens waiting, the batch in the model not counted."""
        return self._queue_tokens

    @property
    def queue_items(self) -> int:
        return self._queue_items

    @property
    def oldest_wait_s(self) -> float:
        """How long the oldest waiting item has waited; 0.0 when none waits."""
        for submission in self._queue:
            return time.monotonic() - submission.queued_at
        return 0.0

    @property
    def busy_for_s(self) -> float:
        """How long the engine has been in its current call; 0.0 when it is in none."""
        began = self._forward_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def alive(self) -> bool:
        """Started, not ended, and the model is not stuck in one forward."""
        running = self._runner is not None and not self._runner.done()
        return running and self.busy_for_s <= self._watchdog_s

    def start(self) -> None:
        """Begins to take batches; call once, from the event loop."""
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="candor-batcher")

    async def submit(self, items: Sequence[Item], *, deadline: float | None) -> list[Scored]:
        """Scores `items`, in order. All of them are admitted or none.

        When the awaiting task is cancelled (its client is gone), the items that still wait leave
        the queue and are never scored.

        Args:
            items: any number; none gives an empty list.
            deadline: in `time.monotonic()` seconds; what has not reached the model by then fails.

        Raises:
            Overloaded, Draining, NotReady: refused, nothing was queued.
            DeadlineExceeded: at admission, or while an item still waited.
            EngineFailed, NonFiniteScore: with `.item` the index into `items`; the rest is dropped.
        """
        if not items:
            return []
        if refusal := self._refusal(sum(item.num_tokens for item in items), deadline):
            self._observer.on_refused(refusal.type)
            raise refusal
        submission = _Submission(
            waiting=deque(enumerate(items)),
            num_items=len(items),
            future=asyncio.get_running_loop().create_future(),
            deadline=deadline,
            queued_at=time.monotonic(),
        )
        self._queue[submission] = None
        self._queue_items += len(items)
        self._queue_tokens += sum(item.num_tokens for item in items)
        self._idle.clear()
        self._wake.set()
        try:
            return await submission.future
        except asyncio.CancelledError:
            if submission in self._queue:
                self._observer.on_gone(len(submission.waiting))
                self._drop(submission)
            raise

    async def drain(self) -> None:
        """Refuses new work and returns when all accepted work is answered."""
        self._draining = True
        await self._idle.wait()

    def close(self) -> None:
        """Stops now. Whatever still waits or is in the model fails with Draining."""
        self._draining = True
        self._fail_all(lambda: Draining("the server is shutting down", retry_after_s=1))
        if self._runner is not None:
            self._runner.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _refusal(self, num_tokens: int, deadline: float | None) -> CandorError | None:
        """Why a submission is not taken, or None."""
        if self._draining:
            return Draining("the server is shutting down", retry_after_s=1)
        if self._runner is None or self._runner.done():
            return NotReady("the model is not running", retry_after_s=1)
        remaining_s = math.inf if deadline is None else deadline - time.monotonic()
        in_flight = sum(item.num_tokens for _, _, item in self._in_flight)
        return self._admission.refusal(num_tokens, self._queue_tokens, in_flight, remaining_s)

    async def _run(self) -> None:
        """Takes a batch, has it scored, settles it; for ever."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._take():
                    began = time.monotonic()
                    for submission, _, _ in self._in_flight:
                        self._observer.on_dequeue(began - submission.queued_at)
                    items = [item for _, _, item in self._in_flight]
                    outcomes = await loop.run_in_executor(
                        self._thread, score_isolated, self._forward, items
                    )
                    self._settle(outcomes, began, time.monotonic() - began)
                self._idle.set()
        finally:
            # Only cancellation, an exit raised by the engine, or a bug gets here.
            self._fail_all(lambda: EngineFailed("the model stopped"))

    def _take(self) -> bool:
        """Moves the next batch from the queue to `_in_flight`; False when nothing waits."""
        now = time.monotonic()
        for submission in [s for s in self._queue if s.deadline is not None and s.deadline <= now]:
            self._observer.on_item_error(DeadlineExceeded.type)
            self._fail(submission, DeadlineExceeded("the deadline passed in the queue"))
        count = take_batch(self._waiting(), self._max_batch_tokens, self._engine.cost)
        for _ in range(count):
            submission = next(iter(self._queue))
            index, item = submission.waiting.popleft()
            self._queue_items -= 1
            self._queue_tokens -= item.num_tokens
            self._in_flight.append((submission, index, item))
            if not submission.waiting:
                del self._queue[submission]
        return count > 0

    def _waiting(self) -> Iterator[Item]:
        for submission in self._queue:
            for _, item in submission.waiting:
                yield item

    def _settle(self, outcomes: Sequence[Outcome], began: float, forward_s: float) -> None:
        """Hands each outcome to its submission, and learns the rate."""
        batch = self._in_flight
        num_tokens = sum(item.num_tokens for _, _, item in batch)
        num_computed_tokens = sum(computed for _, computed in outcomes)
        self._admission.learn(num_tokens, forward_s)
        for (submission, index, _), (score, computed) in zip(batch, outcomes, strict=True):
            if submission.future.done():
                continue  # its client is gone, or another of its items has failed
            if isinstance(score, BaseException) or not score.is_finite:
                error = _error(score, index)
                self._observer.on_item_error(error.type)
                self._fail(submission, error)
                continue
            queue_s = began - submission.queued_at
            submission.scored[index] = Scored(score, queue_s, forward_s, computed)
            if len(submission.scored) == submission.num_items:
                in_order = [submission.scored[i] for i in range(submission.num_items)]
                submission.future.set_result(in_order)
        self._in_flight = []
        self._observer.on_batch(len(batch), num_tokens, num_computed_tokens, forward_s)

    def _fail(self, submission: _Submission, error: CandorError) -> None:
        self._drop(submission)
        if not submission.future.done():
            submission.future.set_exception(error)

    def _fail_all(self, error: Callable[[], CandorError]) -> None:
        for submission in [*self._queue, *(submission for submission, _, _ in self._in_flight)]:
            self._fail(submission, error())
        self._in_flight = []
        self._idle.set()

    def _drop(self, submission: _Submission) -> None:
        """Takes what still waits of a submission out of the queue."""
        if submission in self._queue:
            del self._queue[submission]
            self._queue_items -= len(submission.waiting)
            self._queue_tokens -= sum(item.num_tokens for _, item in submission.waiting)
            submission.waiting.clear()

    def _forward(self, items: Sequence[Item]) -> BatchResult:
        """One call of the engine, on the clock that `busy_for_s` reads. On the model thread."""
        self._forward_began = time.monotonic()
        try:
            return self._engine.score(items)
        finally:
            self._forward_began = None


def _error(score: Score | BaseException, index: int) -> CandorError:
    """What is wrong with an item: the engine raised for it, or what it said is no number."""
    if isinstance(score, Score):
        return NonFiniteScore("the model gave NaN or infinity for this text", item=index)
    kind = type(score).__name__
    error = EngineFailed(f"the model's forward raised {kind} for this item", item=index)
    error.__cause__ = score
    return error
