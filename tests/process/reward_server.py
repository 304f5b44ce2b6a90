"""A tiny reward server as a process of its own, which can die and come back on the same port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2

from candor.probes.identity import weights_sha256
from tests.paths import ROOT
from tests.ports import free_port
from tests.service.serving import save_probe, wait_for
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer


class ServerProcess:
    """`candor serve` on a tiny RM with one penalised probe.

    Args:
        folder: an empty one, for the model, the probe and the log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.returning: threading.Thread | None = None
        save_tiny(folder / "model", tiny_llama(), tiny_tokenizer())
        save_probe(folder / "sycophancy", "sycophancy", weights_sha256(folder / "model"))
        self.start()

    def start(self) -> None:
        arguments = ["--model", str(self.folder / "model"), "--port", str(self.port)]
        arguments += ["--probe", str(self.folder / "sycophancy"), "--penalty", "sycophancy=0.5"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "candor", "serve", *arguments],
                cwd=ROOT,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        wait_for(self.ready, 300)

    def ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz").status_code == 200
        except httpx2.TransportError:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def away(self, seconds: float) -> None:
        """Kill it now; it is started again so much later."""

        def come_back() -> None:
            time.sleep(seconds)
            self.start()

        self.kill()
        self.returning = threading.Thread(target=come_back)
        self.returning.start()

    def stop(self) -> None:
        if self.returning is not None:
            self.returning.join()
        self.kill()
