"""An arm's process is paused for real, and its memory is counted once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.arms.servers import Running, started, tree_bytes, tree_peak_bytes
from candor.jobs.running.processes import StartFailed, free_port

SPINNER = """
import http.server, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *arguments): pass
threading.Thread(target=lambda: [sum(range(1000)) for _ in iter(int, 1)], daemon=True).start()
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
"""


def spent(running: Running, seconds: float = 0.5) -> float:
    before = running.cpu_s()
    time.sleep(seconds)
    return running.cpu_s() - before


def test_a_paused_server_takes_no_cpu_and_is_gone_after_the_block(tmp_path: Path) -> None:
    port = free_port()
    with started(
        [sys.executable, "-c", SPINNER, str(port)],
        url=f"http://127.0.0.1:{port}",
        ready="/",
        log=tmp_path / "log",
        timeout_s=30,
        environment={},
    ) as running:
        pid = running.process.pid
        assert spent(running) > 0  # the control: it spins
        running.pause()
        time.sleep(0.1)
        assert spent(running) == 0
        running.resume()
        assert spent(running) > 0
        running.pause()  # ends all the same
        assert running.start_s > 0
        assert running.peak_bytes > 2**20
    assert not psutil.pid_exists(pid)


def test_a_server_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        pytest.raises(StartFailed, match="no such model"),
        started(
            command,
            url="http://127.0.0.1:1",
            ready="/",
            log=tmp_path / "log",
            timeout_s=30,
            environment={},
        ),
    ):
        pass


HOARDER = """
import sys
block = bytearray(64 * 2**20)
del block
print(flush=True)
sys.stdin.read()
"""


def test_the_peak_is_what_was_once_there() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOARDER], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        gone = tree_peak_bytes(process.pid) - tree_bytes(process.pid)
        process.communicate()
    assert gone == pytest.approx(64 * 2**20, rel=0.1)
    assert tree_peak_bytes(2**22 + 1) == 0  # no such process


def test_memory_of_a_process_alone_is_its_resident_size() -> None:
    resident = psutil.Process().memory_info().rss
    assert tree_bytes(os.getpid()) == pytest.approx(resident, rel=0.2)
    assert tree_bytes(2**22 + 1) == 0  # no such process
