"""A real HTTP server on a loopback port that is a reward server and a generator at once.

What it answers follows from the request alone, so a job against it has one right output. It keeps
what it was asked, and can be told to be slow, to refuse texts, or to serve other weights.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

from tests.client.replies import REVISION, envelope, reward_reply


class Stub(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.delay_s = 0.0
        self.revision = REVISION
        self.refused_texts: set[str] = set()
        """Texts answered with 422, the first of a request by its index."""
        self.names_response = True
        self.say: Callable[[dict[str, Any], int], str] = _echo
        """The text of a chat request's choice."""
        self.finish_reason = "stop"
        self.chat_model: str | None = None
        """The name under which chat replies come; None is the name asked for."""
        self.answers: list[int] = []
        """Statuses for the next POSTs, before the right answer."""
        self.bodies: list[dict[str, Any]] = []
        """Every POST's body, in the order they came."""
        self.log: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a killed client's broken pipe is what these tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def log_message(self, format: str, *args: Any) -> None:
        self.server.log.append(format % args)

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            model = {
                "id": "tiny",
                "revision": self.server.revision,
                "engine": "stub",
                "formula": "R - 0.5*S",
                "created": time.monotonic_ns(),
            }
            self._answer(200, {"object": "list", "data": [model]})
        elif self.path == "/v1/probes":
            self._answer(200, {"probes": [{"name": "sycophancy", "lambda": 0.5}]})
        elif self.path == "/readyz":
            self._answer(200, {"status": "ready", "reason": None})
        else:
            self._answer(404, envelope("not_found", "no such route", retryable=False))

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(content)
        self.server.bodies.append(body)
        time.sleep(self.server.delay_s)
        if self.server.answers and (status := self.server.answers.pop(0)) != 200:
            self._answer(status, "not now")
        elif self.path == "/v1/rewards":
            self._rewards(content, body)
        else:
            reply = _chat(body, self.server.say, self.server.finish_reason)
            self._answer(200, reply | {"model": self.server.chat_model or body["model"]})

    def _rewards(self, content: bytes, body: dict[str, Any]) -> None:
        texts = [text for item in body["items"] for text in item["responses"]]
        refused = [i for i, text in enumerate(texts) if str(text) in self.server.refused_texts]
        if refused:
            named = {"response": refused[0]} if self.server.names_response else {}
            self._answer(422, envelope("too_long", "cut it", retryable=False, item=0, **named))
        else:
            self._answer(200, reward_reply(content, self.server.revision))

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _echo(body: dict[str, Any], index: int) -> str:
    asked = [turn["content"] for turn in body["messages"] if turn["role"] == "user"][-1]
    return f"{asked} {body['seed']} {index}"


def _chat(
    body: dict[str, Any], say: Callable[[dict[str, Any], int], str], finish_reason: str
) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": say(body, index)},
            "finish_reason": finish_reason,
        }
        for index in range(body["n"])
    ]
    return {"model": body["model"], "choices": choices}


@contextlib.contextmanager
def running_stub() -> Iterator[Stub]:
    stub = Stub()
    thread = threading.Thread(
        target=stub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield stub
    finally:
        stub.shutdown()
        stub.server_close()
        thread.join(10)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def rollouts(num_rows: int, num_responses: int = 3) -> list[dict[str, Any]]:
    """Rows as `candor generate` writes them."""
    return [
        {
            "key": f"poem-{row:03}",
            "messages": [{"role": "user", "content": f"Is poem {row} good?"}],
            "meta": {"poem": row},
            "model": "tiny",
            "responses": [
                {"text": f"Answer {index} to poem {row}. " * 20, "finish_reason": "stop"}
                for index in range(num_responses)
            ],
        }
        for row in range(num_rows)
    ]
