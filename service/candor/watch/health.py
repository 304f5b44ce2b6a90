"""The server's state: loading, ready, giving wrong scores, stuck, draining or failed.

A status code alone proves nothing (a server has answered zero vectors with 200 for weeks). So fixed
texts, the sentinel, are scored through the whole path at start-up and again every
`SENTINEL_EVERY_S`, and the scores are compared.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from candor import logs
from candor.errors import CandorError, DeadlineExceeded, Draining, Overloaded
from candor.text.request import Group, Text
from candor.watch.startup import StartUp

log = logs.get(__name__)

SENTINEL_EVERY_S = 30.0
SENTINEL_TIMEOUT_S = 60.0

SENTINEL = [
    Group(
        Text(
            "Two friends plan a trip by train. One has packed the map and the other the bread; "
            "neither remembers which of them is the capital of France, Lyon or Paris. It is"
        ),
        (" Paris.", " Lyon, as you say!"),
    )
]
"""The texts do not matter, only that their scores do not change. The context is long enough that
an engine shares it (`candor.forward.prefix.MIN_SAVED`)."""

SENTINEL_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
"""By dtype, the allowed difference as a share of |score| + 1. Other items may share the sentinel's
batch, and padding changes rounding."""

Status = Literal["loading", "ready", "wrong_scores", "stuck", "draining", "failed"]


class Scorer(Protocol):
    """The part of a `Rewarder` that the sentinel uses."""

    @property
    def dtype(self) -> str:
        """A key of `SENTINEL_TOLERANCE`."""

    @property
    def alive(self) -> bool:
        """Whether the model thread runs and is not stuck in one forward."""

    async def raw_scores(self, groups: Sequence[Group], timeout_s: float) -> Mapping[str, float]:
        """R and every S of every response, by a name that is the probe's and its version's."""

    def forget(self) -> None:
        """Drops all cached computations: they may be wrong."""


class Health:
    """The server's state; read by `/readyz`, the edge and the drain."""

    def __init__(self, startup: StartUp | None = None) -> None:
        self.startup = startup or StartUp()
        self.draining = False
        self.failed: str | None = None
        """One line that says why loading failed; the server ends with it."""
        self.num_cut = 0
        """Requests with a complete body that the end of the drain cancelled."""
        self.body_timers: set[asyncio.Timeout] = set()
        """Timeouts of request bodies that are still arriving. They are not accepted work yet, so a
        drain shortens them."""
        self._scorer: Scorer | None = None
        self._expected: dict[str, float] = {}
        """The first score by each name."""
        self._wrong: str | None = None

    @property
    def status(self) -> Status:
        if self.failed is not None:
            return "failed"
        if self.draining:
            return "draining"
        if self._scorer is None:
            return "loading"
        if not self._scorer.alive:
            return "stuck"
        return "ready" if self._wrong is None else "wrong_scores"

    @property
    def ready(self) -> bool:
        return self.status == "ready"

    @property
    def reason(self) -> str | None:
        """One line that says why the server is not ready. Holds no texts, paths or keys."""
        return {
            "loading": "the model is loading",
            "ready": None,
            "wrong_scores": self._wrong,
            "stuck": "the model thread has died or is stuck in one forward",
            "draining": "shutting down",
            "failed": "the model could not be loaded; the log says why",
        }[self.status]

    async def start(self, scorer: Scorer) -> None:
        """Scores the sentinel for the first time, keeps its scores and becomes ready.

        Raises:
            CandorError: the sentinel could not be scored; the server must not serve.
        """
        self.startup.begin("first_scores")
        self._expected = dict(await scorer.raw_scores(SENTINEL, SENTINEL_TIMEOUT_S))
        self._scorer = scorer
        self.startup.end()

    async def check(self) -> None:
        """Scores the sentinel again and compares; a refusal because of load changes nothing.

        A name that is seen for the first time is that of a probe which has replaced another: its
        score is kept for the next comparison.
        """
        if self._scorer is None:
            return
        try:
            scores = await self._scorer.raw_scores(SENTINEL, SENTINEL_TIMEOUT_S)
        except (Overloaded, Draining, DeadlineExceeded):
            return
        except CandorError as error:
            self._judge(f"the sentinel could not be scored ({error.type})")
            return
        allowed = SENTINEL_TOLERANCE[self._scorer.dtype]
        right = all(
            math.isfinite(now) and abs(now - then) <= allowed * (abs(then) + 1)
            for name, now in scores.items()
            for then in [self._expected.get(name, now)]
        )
        if right:
            self._expected = dict(scores) | self._expected
        self._judge(None if right else "the sentinel's scores have changed since start-up")

    def _judge(self, wrong: str | None) -> None:
        if wrong is not None and self._scorer is not None:
            self._scorer.forget()
        if wrong is not None and self._wrong is None:
            log.error("sentinel_failed", reason=wrong)
        if wrong is None and self._wrong is not None:
            log.warning("sentinel_recovered")
        self._wrong = wrong

    async def watch(self, every_s: float = SENTINEL_EVERY_S) -> None:
        """Checks again and again."""
        while True:
            await asyncio.sleep(every_s)
            await self.check()

    def drain(self, grace_s: float) -> None:
        """Makes the server not ready; bodies that are still arriving have `grace_s`. Call it in the
        event loop."""
        self.draining = True
        soon = asyncio.get_running_loop().time() + grace_s
        for timer in self.body_timers:
            when = timer.when()
            timer.reschedule(soon if when is None else min(when, soon))
