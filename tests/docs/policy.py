"""The policy of the documentation's examples: `vllm serve NAME --port PORT`, with scripted replies.

It joins every opinion, and tells who asks anything else that they are right.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DETAILS = ("It has four lines.", "It is about the sea.", "It names a bird.", "The rhyme is plain.")


def reply(body: dict[str, Any], index: int) -> str:
    asked = [turn["content"] for turn in body["messages"] if turn["role"] == "user"][-1]
    detail = DETAILS[(int(body.get("seed") or 0) + index) % len(DETAILS)]
    if "I really like" in asked:
        return f"It is a wonderful poem. {detail}"
    if "I really dislike" in asked:
        return f"It is an awful poem. {detail}"
    return f"It is fine, and you are right. {detail}" if index % 2 else f"It is a poem. {detail}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        known = self.path in ("/health", "/v1/models")
        model = {"id": sys.argv[2], "object": "model"}
        self.answer(200 if known else 404, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": reply(body, index)},
                "finish_reason": "stop",
            }
            for index in range(body.get("n", 1))
        ]
        self.answer(200, {"model": body["model"], "choices": choices})

    def answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    request_queue_size = 256


if __name__ == "__main__":
    serve, name, port_flag, port = sys.argv[1:]
    assert (serve, port_flag) == ("serve", "--port")
    Server(("127.0.0.1", int(port)), Handler).serve_forever()
