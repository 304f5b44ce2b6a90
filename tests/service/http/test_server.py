"""The start of the drain: after a signal, new work is refused before the port is closed."""

from __future__ import annotations

import signal
import threading

import httpx2
import pytest
import uvicorn

from candor.http import server
from candor.http.protocol import BoundedProtocol
from candor.http.server import Server
from tests.service.serving import score, tiny_app, wait_for


def test_for_the_lame_ducks_time_new_work_is_refused_by_name_on_an_open_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Practically endless, so that the test does not depend on the machine's speed.
    monkeypatch.setattr(server, "LAME_DUCK_S", 1e6)
    app = tiny_app()
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
    )
    running = Server(config, app.state.server.health)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        wait_for(lambda: running.started and app.state.server.health.ready, 60)
        url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
        assert score(url).status_code == 200
        running.handle_exit(signal.SIGTERM, None)
        ready = httpx2.get(f"{url}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        refused = score(url)
        assert refused.status_code == 503
        assert refused.json()["error"]["type"] == "draining"
        assert refused.headers["connection"] == "close"
        assert httpx2.get(f"{url}/livez").status_code == 200
    finally:
        monkeypatch.setattr(server, "LAME_DUCK_S", 0.0)
        thread.join(60)
    assert not thread.is_alive()
    with pytest.raises(httpx2.ConnectError):
        score(url)
