"""uvicorn's server with a drain: what happens between SIGTERM and the exit.

At once not ready; for `LAME_DUCK_S` new requests are told 503 on an open port; then the port closes
and accepted work is finished, until uvicorn's `timeout_graceful_shutdown` cancels what is left. A
second signal leaves at once.
"""

from __future__ import annotations

import os
import time
from types import FrameType

import uvicorn

from candor.watch.health import Health

LAME_DUCK_S = 2.0
"""Long enough for a balancer to see `/readyz` fail."""

CUT = 75
"""Exit status when accepted work was not answered."""


class Server(uvicorn.Server):
    """uvicorn with a drain: not ready at once, a lame duck, then the end of accepted work.

    Stock uvicorn closes the listener on SIGTERM, so a balancer sees refused connections in place of
    a 503, and it ends with the signal re-raised, which no supervisor can tell from a crash.
    """

    def __init__(self, config: uvicorn.Config, health: Health) -> None:
        super().__init__(config)
        self.health = health
        self._signalled_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: leave now."""
        if self._signalled_at is not None:
            os._exit(CUT)
        self._signalled_at = time.monotonic()
        self.health.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Every 100 ms: move the drain on, or leave if loading has failed."""
        if self._signalled_at is not None:
            since = time.monotonic() - self._signalled_at
            self.health.drain(max(0.0, LAME_DUCK_S - since))
            self.should_exit = since >= LAME_DUCK_S
        if self.health.failed is not None:
            self.should_exit = True
        return await super().on_tick(counter)
