"""uvicorn's server with a drain between SIGTERM and the exit.

After the signal the server is not ready. For `LAME_DUCK_S` the port stays open and new requests get
503. Then the port closes and accepted work is finished, until uvicorn's `timeout_graceful_shutdown`
cancels the rest. A second signal ends the process at once.
"""

from __future__ import annotations

import os
import time
from types import FrameType

import uvicorn

from candor.watch.health import Health

LAME_DUCK_S = 2.0
"""Long enough for a balancer to see that `/readyz` fails."""

EXIT_WORK_CUT = 75
"""Exit status if accepted work was not answered."""


class Server(uvicorn.Server):
    """uvicorn with a drain.

    Stock uvicorn closes the listener on SIGTERM, so a balancer sees refused connections instead of
    503. It then raises the signal again, which a supervisor cannot distinguish from a crash.
    """

    def __init__(self, config: uvicorn.Config, health: Health) -> None:
        super().__init__(config)
        self.health = health
        self._signalled_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain; the second ends the process."""
        if self._signalled_at is not None:
            os._exit(EXIT_WORK_CUT)
        self._signalled_at = time.monotonic()
        self.health.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Called every 100 ms: advances the drain, or exits if loading has failed."""
        if self._signalled_at is not None:
            since = time.monotonic() - self._signalled_at
            self.health.drain(max(0.0, LAME_DUCK_S - since))
            self.should_exit = since >= LAME_DUCK_S
        if self.health.failed is not None:
            self.should_exit = True
        return await super().on_tick(counter)
