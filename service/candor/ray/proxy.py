"""The answer to a caller whose replica died with the request: 503, send the request again.

By itself Ray's proxy answers 500, which clients take as final. Sending the request again helps,
because scoring is a pure function. Ray's proxies load this module by

    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=candor.ray.proxy:middlewares

in the environment of `ray start` (or of `serve run`, where that starts Ray). A proxy holds no
model, so nothing here may import torch.
"""

from __future__ import annotations

import orjson
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from candor.http import guards


class TellReplicaLost:
    """ASGI middleware around Ray's proxy: answers 503 to a request that got no answer at all."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answered = False

        async def note(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        await self.app(scope, receive, note)
        if answered:
            return
        request_id = guards.request_id(scope["headers"])
        body = envelope(request_id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", b"1"),
            (b"x-request-id", request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def envelope(request_id: str) -> bytes:
    """The body of the answer: an error as in docs/api.md."""
    detail = {
        "type": "replica_lost",
        "message": "the replica was lost before it answered; send the request again",
        "item": None,
        "response": None,
        "retryable": True,
        "request_id": request_id,
    }
    return orjson.dumps({"error": detail})


def middlewares() -> list[Middleware]:
    """The middleware of Ray's proxies."""
    return [Middleware(TellReplicaLost)]
