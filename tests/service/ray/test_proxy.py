"""A request whose replica died gets an answer that says to send it again. Ray itself is in
tests/process/test_ray.py."""

from __future__ import annotations

import subprocess
import sys

import httpx2
import orjson
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from candor.client.retry import error_of
from candor.errors import InternalError
from candor.http.edge import error_answer
from candor.ray.proxy import TellReplicaLost, envelope, middlewares
from tests.paths import ROOT
from tests.service.serving import running


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Ray's proxy where the replica has died: it returns without a word."""
    await receive()


def ask(path: str, *, told: bool) -> httpx2.Response:
    app = FastAPI()
    app.mount("/dead", silent)
    if told:
        app.add_middleware(TellReplicaLost)
    with running(app, ready=False) as url:
        return httpx2.get(url + path, headers={"x-request-id": "abc"})


def test_silence_becomes_a_retryable_503_and_an_answer_stays_what_it_is() -> None:
    error = error_of(ask("/dead/", told=True))
    assert (error.type, error.status, error.retryable) == ("replica_lost", 503, True)
    assert (error.request_id, error.retry_after_s) == ("abc", 1)
    assert ask("/elsewhere", told=True).json() == {"detail": "Not Found"}


def test_without_it_the_caller_is_told_that_trying_again_is_of_no_use() -> None:
    error = error_of(ask("/dead/", told=False))
    assert (error.status, error.retryable) == (500, False)


def test_the_envelope_is_the_edges() -> None:
    edges, _ = error_answer(InternalError("a reason"), "abc")
    assert orjson.loads(envelope("abc"))["error"].keys() == orjson.loads(edges)["error"].keys()


def test_it_is_what_the_proxy_calls_for_and_brings_no_torch_into_it() -> None:
    assert [one.cls for one in middlewares()] == [TellReplicaLost]
    code = "import sys, candor.ray.proxy\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
