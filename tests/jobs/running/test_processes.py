"""Server processes are started, waited for and stopped, whatever happens inside the block."""

from __future__ import annotations

import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from candor.jobs.running.processes import StartFailed, free_port, running

HANDLER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


def server(port: int, status: int = 200, before: str = "") -> list[str]:
    return [sys.executable, "-c", before + HANDLER.format(port=port, status=status)]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_the_block_runs_while_the_server_answers_and_the_port_is_free_after_it(
    tmp_path: Path,
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    log = tmp_path / "new" / "server.log"
    with running(server(port), ready_url=url, log=log, timeout_s=30) as process:
        assert urllib.request.urlopen(url, timeout=5).status == 200
        assert not is_free(port)
        assert process.poll() is None
    assert process.returncode == -signal.SIGTERM
    assert is_free(port)
    assert "GET /" in log.read_text()


def test_an_exception_in_the_block_stops_the_server_and_is_not_lost(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with (
        pytest.raises(ZeroDivisionError),
        running(server(port), ready_url=url, log=tmp_path / "log", timeout_s=30) as process,
    ):
        _ = 1 / 0
    assert process.poll() is not None
    assert is_free(port)


def test_a_process_that_exits_at_once_is_told_of_with_the_end_of_its_log(tmp_path: Path) -> None:
    lines = "for i in range(40): print('line', i)\nraise SystemExit(3)"
    with (
        pytest.raises(StartFailed, match="exited with 3") as failed,
        running(
            [sys.executable, "-c", lines],
            ready_url=f"http://127.0.0.1:{free_port()}/",
            log=tmp_path / "log",
            timeout_s=30,
        ),
    ):
        pytest.fail("the block was entered")
    message = str(failed.value)
    assert "line 39" in message
    assert "line 10" not in message
    assert str(tmp_path / "log") in message


@pytest.mark.parametrize("status", [503, 204])
def test_a_server_that_never_becomes_ready_is_stopped_and_told_of(
    tmp_path: Path, status: int
) -> None:
    """It answers all along: an answer is not yet readiness."""
    port = free_port()
    with (
        pytest.raises(StartFailed, match="not ready in 2 s"),
        running(
            server(port, status=status, before="print('loading', flush=True)"),
            ready_url=f"http://127.0.0.1:{port}/",
            log=tmp_path / "log",
            timeout_s=2,
        ),
    ):
        pytest.fail("the block was entered")
    assert is_free(port)
    assert "loading" in (tmp_path / "log").read_text()


def test_the_process_gets_the_environment_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDOR_TEST_OURS", "kept")
    port = free_port()
    say = "import os; print(os.environ['CANDOR_TEST_OURS'], os.environ['GIVEN'], flush=True)"
    with running(
        server(port, before=say),
        ready_url=f"http://127.0.0.1:{port}/",
        log=tmp_path / "log",
        timeout_s=30,
        environment=os.environ | {"GIVEN": "anew"},
    ):
        pass
    assert (tmp_path / "log").read_text().startswith("kept anew\n")
    assert "GIVEN" not in os.environ
