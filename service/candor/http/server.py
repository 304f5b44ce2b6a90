"""uvicorn's server with a drain between SIGTERM and the exit.

After the signal the server is not ready. For `LAME_DUCK_S` the port stays open and new requests get
503. Then the port closes and accepted work is finished, until uvicorn's `timeout_graceful_shutdown`
cancels the rest. A second signal ends the process at once.
"""

from __future__ import annotations

import os
import sys
import time
from types import FrameType

import uvicorn

from candor import logs
from candor.watch.health import Health

log = logs.get(__name__)

LAME_DUCK_S = 2.0
"""Long enough for a balancer to see that `/readyz` fails."""

EXIT_WORK_CUT = 75
"""Exit status if accepted work was not answered."""


class Server(uvicorn.Server):
    """uvicorn with a drain, that says where its inspector is once it is ready.

    Args:
        inspector: whether there is one.

    Stock uvicorn closes the listener on SIGTERM, so a balancer sees refused connections instead of
    503. It then raises the signal again, which a supervisor cannot distinguish from a crash.
    """

    def __init__(self, config: uvicorn.Config, health: Health, *, inspector: bool = False) -> None:
        super().__init__(config)
        self.health = health
        self._inspector_to_say = inspector
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
        if self._inspector_to_say and self.health.startup.ended:
            self._inspector_to_say = False
            say_inspector(self.url)
        return await super().on_tick(counter)

    @property
    def url(self) -> str:
        """An address of the server that a browser on this machine can open. Its port is the one
        that is bound, which --port 0 left to the system."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.config.host, self.config.host)
        port = self.servers[0].sockets[0].getsockname()[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def say_inspector(url: str) -> None:
    """Says where the inspector is: to a person on a terminal, and elsewhere in a log line."""
    page = f"{url}/inspector"
    if sys.stderr.isatty():
        print(f"\ninspector: {page}   (Ctrl-C stops the server)\n", file=sys.stderr, flush=True)
    else:
        log.info("inspector", url=page)
