"""`Batcher`: feeds one engine from one queue, isolates failures, and drains.

All state belongs to the event loop's thread. A model thread takes a batch and returns a list of
outcomes. A batch is formed from the waiting items when a worker becomes free
(`candor.batching.queue`); there is no timer. Deadlines and waits are on the monotonic clock.

Every `submit` ends, on every path: with scores or with a `CandorError`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence

from candor.batching.admission import Admission
from candor.batching.observer import Observer
from candor.batching.queue import Entry, Queue, Submission
from candor.batching.workers import Batch, Outcome, Workers
from candor.errors import (
    CandorError,
    DeadlineExceeded,
    Draining,
    EngineFailed,
    NonFiniteScore,
    NotReady,
)
from candor.item import Engine, Item, Score, Scored

MIN_TOKENS_PER_WORKER = 128
"""Fewest tokens that get a worker of their own. Below, the matrix products get slower. From this
size on, two texts on one thread each are scored sooner than one batch of both on two threads
(docs/decisions.md)."""


class Batcher:
    """Feeds one engine from one queue.

    Args:
        engine: called from `num_workers` threads.
        max_batch_tokens: most tokens of one forward, as the engine's `costs` counts them.
        max_queue_tokens: bound on the tokens that wait.
        watchdog_s: a single forward longer than this makes `alive` false.
        num_workers: batches that may run at once.
        before_batch: called in the model thread with the number of workers whose cores the batch
            may use; all of them when nothing else waits or runs. None: the engine divides the cores
            itself, and batches always start side by side.
        observer: notified of batches, waits, refusals and failures.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch_tokens: int,
        max_queue_tokens: int,
        watchdog_s: float = 60.0,
        num_workers: int = 1,
        before_batch: Callable[[int], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._engine = engine
        self._max_batch_tokens = max_batch_tokens
        self._admission = Admission(max_queue_tokens)
        self._watchdog_s = watchdog_s
        self._workers = Workers(engine, num_workers, before_batch)
        self._divides_cores = before_batch is not None
        self._observer = observer or Observer()
        self._queue = Queue()
        self._draining = False
        self._settled_at = -math.inf
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._runner: asyncio.Task[None] | None = None

    @property
    def num_workers(self) -> int:
        """Batches that run at once."""
        return self._workers.num_workers

    @property
    def num_queued_tokens(self) -> int:
        """Tokens that wait. Tokens in the model do not count."""
        return self._queue.num_tokens

    @property
    def num_queued_items(self) -> int:
        return len(self._queue)

    @property
    def oldest_wait_s(self) -> float:
        """How long the oldest waiting item has waited; 0.0 when the queue is empty."""
        oldest = self._queue.oldest
        return 0.0 if oldest is None else time.monotonic() - oldest.queued_at

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until all that waits now is scored, as predicted and bounded for
        `Retry-After`."""
        return self._admission.retry_after_s(self._queue.num_tokens + self._workers.num_tokens)

    @property
    def busy_for_s(self) -> float:
        """How long the longest of the engine's current calls has run; 0.0 without a call."""
        return self._workers.busy_for_s

    @property
    def busy_s(self) -> float:
        """Seconds that workers have been in use since the start, added up over workers."""
        return self._workers.busy_s

    @property
    def alive(self) -> bool:
        """Whether the batcher runs and no worker is stuck in one forward."""
        running = self._runner is not None and not self._runner.done()
        return running and self.busy_for_s <= self._watchdog_s

    def start(self) -> None:
        """Begins to take batches. Call once, from the event loop."""
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="candor-batcher")

    async def submit(
        self, items: Sequence[Item], *, deadline: float | None, first: bool = False
    ) -> list[Scored]:
        """Scores `items`, in order. Either all of them are admitted or none.

        When the awaiting task is cancelled (its client has left), the items that still wait leave
        the queue and are never scored.

        Args:
            items: any number; an empty sequence gives an empty list.
            deadline: in `time.monotonic()` seconds. Items that have not reached the model by then
                fail.
            first: whether the items go before all that wait, and are not refused because of load.
                For the sentinel: a queue of an hour must not hide wrong scores for an hour.

        Raises:
            Overloaded, Draining, NotReady: refused; nothing was queued. Overloaded: the queue is
                full, or the deadline is sooner than the scores can be ready.
            DeadlineExceeded: the deadline had passed at admission, or passed while an item waited.
            EngineFailed, NonFiniteScore: `.item` is the index into `items`; the other items are
                dropped.
        """
        if not items:
            return []
        now = time.monotonic()
        future: asyncio.Future[list[Scored]] = asyncio.get_running_loop().create_future()
        submission = Submission(len(items), future, deadline)
        entries = [Entry(submission, index, item, now) for index, item in enumerate(items)]
        num_tokens = sum(item.num_tokens for item in items)
        if refusal := self._refusal(num_tokens, deadline, first=first):
            self._observer.on_refused(refusal.type)
            raise refusal
        for entry in reversed(entries) if first else entries:
            self._queue.add(entry, first=first)
        submission.waiting.update(entries)
        self._idle.clear()
        self._wake.set()
        try:
            return await future
        except asyncio.CancelledError:
            if submission.waiting:
                self._observer.on_gone(len(submission.waiting))
                self._drop(submission)
            raise

    async def drain(self) -> None:
        """Refuses new work, and returns when all accepted work is answered."""
        self._draining = True
        await self._idle.wait()

    def close(self) -> None:
        """Stops now. Items that wait or are in the model fail with `Draining`."""
        self._draining = True
        self._fail_all(lambda: Draining("the server is shutting down", retry_after_s=1))
        if self._runner is not None:
            self._runner.cancel()
        self._workers.close()

    def _refusal(
        self, num_tokens: int, deadline: float | None, *, first: bool
    ) -> CandorError | None:
        """The error for a submission of `num_tokens` that is not accepted, or None."""
        if self._draining:
            return Draining("the server is shutting down", retry_after_s=1)
        if self._runner is None or self._runner.done():
            return NotReady("the model is not running", retry_after_s=1)
        if first:
            return None
        remaining_s = math.inf if deadline is None else deadline - time.monotonic()
        return self._admission.refusal(
            num_tokens, self._queue.num_tokens, self._workers.num_tokens, remaining_s
        )

    async def _run(self) -> None:
        """Runs the workers, and ends when the first of them ends."""
        workers = [asyncio.create_task(self._work()) for _ in range(self._workers.num_workers)]
        try:
            ended, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
            ended.pop().result()
        finally:
            # Only cancellation, an exit raised by the engine, or a bug gets here.
            for worker in workers:
                worker.cancel()
            self._fail_all(lambda: EngineFailed("the model stopped"))

    async def _work(self) -> None:
        """Takes, scores and settles batches without end."""
        while True:
            batch = self._take()
            if batch is None:
                if self._workers.idle and not self._queue:
                    self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                continue
            self._settle(batch, await self._workers.run(batch))

    def _take(self) -> Batch | None:
        """Moves the next batch from the queue to a worker; None when no batch can begin.

        A batch that empties the queue gets the cores of every free worker (with
        `before_batch`), and no other batch begins on those cores until it ends: threads that wait
        for each other at every layer must not share a core with other work.
        """
        num_free = self._workers.num_free
        while num_free > 0 and self._queue:
            enough = self._max_batch_tokens
            if self._workers.num_workers > 1:  # one worker's share, so that all are busy to the end
                share = self._queue.num_distinct_tokens // self._workers.num_workers
                enough = max(MIN_TOKENS_PER_WORKER, share)
            entries = self._queue.take(enough, self._max_batch_tokens, self._engine.costs)
            now = time.monotonic()
            for entry in entries:
                entry.submission.waiting.discard(entry)
            if entries := [entry for entry in entries if self._must_run(entry, now)]:
                for entry in entries:
                    self._observer.on_dequeue(now - entry.queued_at)
                whole = self._divides_cores and not self._queue
                return self._workers.begin(entries, num_free if whole else 1)
        return None

    def _must_run(self, entry: Entry, now: float) -> bool:
        """Whether an entry taken from the queue still has to be computed."""
        submission = entry.submission
        if submission.future.done():
            return False
        if submission.deadline is not None and submission.deadline <= now:
            self._observer.on_item_error(DeadlineExceeded.type)
            passed = "the deadline passed in the queue"
            self._fail(submission, DeadlineExceeded(passed, retry_after_s=self.retry_after_s))
            return False
        return True

    def _settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Gives each outcome to its submission, and learns the rate."""
        now = time.monotonic()
        forward_s = now - batch.began
        # The rate is that of all batches that run side by side. So the time counts from the end of
        # the previous batch, or from this batch's begin if that was later.
        busy_s = now - max(batch.began, self._settled_at)
        self._settled_at = now
        self._workers.end(batch)
        self._wake.set()
        num_tokens = sum(entry.item.num_tokens for entry in batch.entries)
        num_computed_tokens = sum(computed for _, computed in outcomes)
        self._admission.learn(num_tokens, busy_s)
        for entry, (score, computed) in zip(batch.entries, outcomes, strict=True):
            submission = entry.submission
            if isinstance(score, Score) and score.is_finite:
                queue_s = batch.began - entry.queued_at
                submission.give(entry.index, Scored(score, queue_s, forward_s, computed))
            elif not submission.future.done():  # done: another item failed, or the client left
                error = _error(score, entry.index)
                self._observer.on_item_error(error.type)
                self._fail(submission, error)
        self._observer.on_batch(len(batch.entries), num_tokens, num_computed_tokens, forward_s)

    def _fail(self, submission: Submission, error: CandorError) -> None:
        self._drop(submission)
        if not submission.future.done():
            submission.future.set_exception(error)

    def _fail_all(self, error: Callable[[], CandorError]) -> None:
        accepted = [*self._queue, *self._workers.entries]
        for submission in {entry.submission: None for entry in accepted}:
            self._fail(submission, error())
        self._workers.abandon()
        self._idle.set()

    def _drop(self, submission: Submission) -> None:
        """Takes a submission's waiting entries out of the queue."""
        for entry in submission.waiting:
            self._queue.discard(entry)
        submission.waiting.clear()


def _error(score: Score | BaseException, index: int) -> CandorError:
    """The error of a failed item: the engine raised for it, or its score is not finite."""
    if isinstance(score, Score):
        return NonFiniteScore("the model gave NaN or infinity for this text", item=index)
    kind = type(score).__name__
    error = EngineFailed(
        f"the model's forward raised {kind} for this item; the server's log has the reason under "
        "this request's id",
        item=index,
    )
    error.__cause__ = score
    return error
