"""`candor serve` as a process: on tiny models, and able to die and come back on the same port."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import httpx2

from candor.jobs.running.processes import candor, free_port, start
from candor.probes.identity import weights_sha256
from tests.service.serving import save_probe, wait_for
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer


def save_served(folder: Path) -> Path:
    """A tiny RM in FOLDER/model and its probe in FOLDER/sycophancy."""
    save_tiny(folder / "model", tiny_llama(), tiny_tokenizer())
    save_probe(folder / "sycophancy", "sycophancy", weights_sha256(folder / "model"))
    return folder


def serve_environment(**more: str) -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | more


class ServeProcess:
    """`candor serve` on FOLDER/model and a free port, with further flags and variables; started at
    once unless `start` is false."""

    def __init__(
        self, folder: Path, *arguments: str, start: bool = True, **environment: str
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"log-{self.port}"
        self.command = candor("serve", f"--model={folder / 'model'}", *arguments)
        self.environment = serve_environment(CANDOR_SERVE_PORT=str(self.port), **environment)
        self.returning: threading.Thread | None = None
        if start:
            self.start()

    def start(self) -> None:
        self.process = start(self.command, self.log, self.environment)

    def answers(self, path: str) -> bool:
        try:
            return httpx2.get(self.url + path).status_code == 200
        except httpx2.TransportError:
            assert self.process.poll() is None, self.log.read_text()
            return False

    def wait_ready(self) -> None:
        wait_for(lambda: self.answers("/readyz"), 300)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line]

    def away(self, seconds: float) -> None:
        """Kill it now; it is started again so much later."""

        def come_back() -> None:
            time.sleep(seconds)
            self.start()

        self.kill()
        self.returning = threading.Thread(target=come_back)
        self.returning.start()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        if self.returning is not None:
            self.returning.join()
        self.kill()
