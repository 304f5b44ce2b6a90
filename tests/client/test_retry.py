"""When a request is sent again: statuses, envelope, Retry-After, jitter and budget."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import httpx2
import pytest

from candor.client.errors import (
    ClientError,
    InvalidReply,
    PermanentError,
    RetryableError,
    RewardError,
    Unreachable,
)
from candor.client.retry import (
    Retry,
    Tries,
    Waiting,
    error_of,
    http_url,
    send,
    send_async,
    shown,
    timeout,
)
from candor.client.reward import RewardClient
from tests.client.replies import as_response, envelope

QUICK = Retry(budget_s=30, first_s=0.001, cap_s=0.002)
Handler = Callable[[httpx2.Request], httpx2.Response]


def count_tries(
    handler: Handler, retry: Retry, *, use_async: bool
) -> tuple[int, ClientError | None]:
    """How often the request arrived, and what was raised in the end."""
    tries = 0

    def counting(request: httpx2.Request) -> httpx2.Response:
        nonlocal tries
        tries += 1
        return handler(request)

    async def run_async() -> None:
        transport = httpx2.MockTransport(counting)
        async with httpx2.AsyncClient(base_url="http://rm", transport=transport) as client:
            await send_async(client, client.build_request("GET", "/x"), retry)

    try:
        if use_async:
            asyncio.run(run_async())
        else:
            transport = httpx2.MockTransport(counting)
            with httpx2.Client(base_url="http://rm", transport=transport) as client:
                send(client, client.build_request("GET", "/x"), retry)
    except ClientError as error:
        return tries, error
    return tries, None


def failing_twice(status: int, body: object = "busy") -> Handler:
    answers = iter([status, status])
    return lambda request: as_response(next(answers, 200), body)


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("status", [408, 425, 502, 503, 504])
def test_a_passing_failure_is_tried_again_until_it_succeeds(status: int, use_async: bool) -> None:
    assert count_tries(failing_twice(status), QUICK, use_async=use_async) == (3, None)


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("status", [307, 400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 501])
def test_every_other_status_is_final_at_once(status: int, use_async: bool) -> None:
    tries, error = count_tries(failing_twice(status), QUICK, use_async=use_async)
    assert tries == 1
    assert isinstance(error, PermanentError)
    assert error.status == status
    assert not error.retryable


def test_the_envelope_has_the_last_word_on_what_can_be_retried() -> None:
    ours = failing_twice(500, envelope("internal_error", "once more", retryable=True))
    assert count_tries(ours, QUICK, use_async=False) == (3, None)
    final = failing_twice(503, envelope("gone", "never again", retryable=False))
    tries, error = count_tries(final, QUICK, use_async=False)
    assert (tries, type(error)) == (1, PermanentError)


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize(
    "fault", [httpx2.ConnectError, httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError]
)
def test_no_answer_is_tried_again_and_named_unreachable_in_the_end(
    fault: type[httpx2.TransportError], use_async: bool
) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise fault("no luck")

    retry = Retry(budget_s=0.05, first_s=0.001, cap_s=0.002)
    tries, error = count_tries(handler, retry, use_async=use_async)
    assert tries > 3
    assert isinstance(error, Unreachable)
    assert "http://rm/x" in str(error)
    assert fault.__name__ in str(error)
    assert f"gave up after {tries} tries in 0." in str(error)


def test_without_a_budget_everything_is_sent_once() -> None:
    tries, error = count_tries(failing_twice(503), Retry(budget_s=0), use_async=False)
    assert tries == 1
    assert isinstance(error, RetryableError)
    assert "gave up after 1 try" in str(error)


def test_retry_after_is_a_lower_bound_of_the_wait_and_is_clamped() -> None:
    for given, low in (("7", 7.0), ("0", 0.0), ("100000", 120.0)):
        failure = error_of(as_response(503, "full", {"Retry-After": given}))
        waits = [Tries(Retry(budget_s=1000), random.Random(s)).wait_s(failure) for s in range(200)]
        assert low <= min(waits) < max(waits) <= low + 0.5, given


@pytest.mark.parametrize("given", ["-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "soon", ""])
def test_a_retry_after_that_is_not_whole_seconds_is_ignored(given: str) -> None:
    assert error_of(as_response(503, "full", {"Retry-After": given})).retry_after_s is None


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "60"}])
def test_the_last_try_is_made_when_the_budget_ends_and_not_earlier(
    headers: dict[str, str], use_async: bool
) -> None:
    """A wait of up to 10 s (or as the server asks) was not begun if it outlasted the budget: the
    client gave up that much too early."""
    times: list[float] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        times.append(time.monotonic())
        return as_response(503, "full", headers)

    retry = Retry(budget_s=0.6, first_s=30, cap_s=30)
    tries, error = count_tries(handler, retry, use_async=use_async)
    assert isinstance(error, RetryableError)
    assert len(times) == tries >= 2
    assert 0.6 <= times[-1] - times[0] < 5


def test_the_budget_runs_from_the_first_failure_and_not_from_the_wait_for_a_connection() -> None:
    tries = Tries(Retry(budget_s=5, first_s=0.001), began=time.monotonic() - 3600)
    failure = error_of(as_response(503, "full"))
    assert tries.wait_s(failure) <= 0.001


def test_jitter_is_full_and_its_bound_doubles_up_to_the_cap() -> None:
    retry = Retry(budget_s=1e9)
    assert [retry.bound_s(k) for k in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert retry.bound_s(10_000) == 10
    failure = error_of(as_response(503, "full"))
    runs = []
    for seed in range(500):
        tries = Tries(retry, random.Random(seed))
        runs.append([tries.wait_s(failure) for _ in range(6)])
    for k, waits in enumerate(zip(*runs, strict=True), start=1):
        bound = retry.bound_s(k)
        assert 0 <= min(waits) < 0.05 * bound
        assert 0.95 * bound < max(waits) <= bound


def test_the_envelope_becomes_a_typed_error() -> None:
    body = envelope(
        "too_long", "cut it", retryable=False, item=3, response=1, request_id="r-7", more_to_come=1
    )
    error = error_of(as_response(422, body))
    assert isinstance(error, PermanentError)
    assert (error.type, error.status, error.message) == ("too_long", 422, "cut it")
    assert (error.item, error.response, error.request_id) == (3, 1, "r-7")
    assert str(error) == "422 too_long: cut it (item 3, response 1) [request r-7]"


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>bad gateway</html>", b"[1, 2]", b'{"error": "text"}', b"\xff\xfe", b"[" * 5000,
     b'{"error": {"type": 3, "message": null, "item": "x", "retryable": "yes"}}'],
)  # fmt: skip
def test_any_other_body_still_becomes_an_error_with_its_status(content: bytes) -> None:
    error = error_of(httpx2.Response(502, content=content))
    assert isinstance(error, RetryableError)
    assert error.type == "http_502"
    assert error.message
    assert len(error.message) <= 500
    assert (error.item, error.response) == (None, None)


def test_errors_of_one_kind_can_be_caught_by_their_parents() -> None:
    assert issubclass(PermanentError, RewardError)
    assert issubclass(RetryableError, RewardError)
    assert issubclass(RewardError, ClientError)
    assert issubclass(Unreachable, ClientError)


def test_an_address_without_a_scheme_is_refused_before_anything_is_sent() -> None:
    assert http_url("http://rm:8000/") == "http://rm:8000"
    assert http_url(" http://[::1]:8000\n") == "http://[::1]:8000"
    for wrong in ("http://", "http://:8000", "http://rm:99999", "http://[rm", "http://r\nm"):
        with pytest.raises(ValueError, match="URL"):
            http_url(wrong)
    for wrong in ("rm:8000", "", "ftp://rm", "localhost"):
        with pytest.raises(ValueError, match="http://"):
            http_url(wrong)


def test_a_key_in_the_address_is_in_no_message(caplog: pytest.LogCaptureFixture) -> None:
    assert shown("http://user:s3cret@rm:8000/v1?a=b") == "http://rm:8000/v1?a=b"
    with (
        RewardClient("http://user:s3cret@127.0.0.1:1", retry=Retry(0.1)) as client,
        pytest.raises(Unreachable) as failed,
    ):
        client.models()
    assert "http://127.0.0.1:1/v1/models" in str(failed.value)
    assert "s3cret" not in str(failed.value) + caplog.text


def serve_raw(answers: list[bytes]) -> tuple[int, threading.Thread]:
    """A real port that gives each connection one scripted answer and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return listener.getsockname()[1], thread


def test_a_connection_that_dies_before_or_in_the_middle_of_a_reply_is_tried_again() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"
    port, thread = serve_raw([b"", whole[:-2], whole[:10], whole])
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=timeout(10)) as client:
        answer = send(client, client.build_request("GET", "/x"), QUICK)
    thread.join(10)
    assert answer.content == b"well"


def test_a_cut_reply_is_not_taken_for_a_whole_one_when_the_budget_is_spent() -> None:
    port, thread = serve_raw([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwe"])
    with (
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=timeout(10)) as client,
        pytest.raises(Unreachable),
    ):
        send(client, client.build_request("GET", "/x"), Retry(budget_s=0))
    thread.join(10)


def nobody_accepts() -> socket.socket:
    """A port whose queue is full: nobody refuses and nobody answers, as with a firewall."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    return listener


@pytest.mark.parametrize("silent", [False, True])
def test_within_two_seconds_a_client_says_that_nobody_answers(
    silent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with nobody_accepts() as listener:
        address = listener.getsockname()
        held = [socket.socket() for _ in range(4)] if silent else []
        for one in held:
            one.setblocking(False)
            one.connect_ex(address)
        if not silent:
            listener.close()
        url = f"http://{address[0]}:{address[1]}"
        began = time.monotonic()
        said: list[float] = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(time.monotonic() - began)  # type: ignore[method-assign]
        logging.getLogger("candor.client").addHandler(handler)
        try:
            with (
                RewardClient(url, retry=Retry(budget_s=2.5)) as client,
                pytest.raises(Unreachable),
            ):
                client.models()
        finally:
            logging.getLogger("candor.client").removeHandler(handler)
            for one in held:
                one.close()
    assert said[0] < 2  # soon
    assert len(said) <= 3  # and at 1 s and 2 s, once for all tries
    message, *_ = [r.getMessage() for r in caplog.records if r.name == "candor.client"]
    assert f"no answer from GET {url}/v1/models" in message
    assert "Is the server running, and is this its address?" in message
    assert "for up to 2 s" in message or "for up to 3 s" in message


def test_a_client_that_waits_says_so_at_each_doubling(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(seconds=0.0, monotonic=lambda: clock.seconds)
    monkeypatch.setattr("candor.client.retry.time", clock)
    waiting, said = Waiting(), []
    for tenth in range(2000):  # a try every 0.1 s, for 200 s
        clock.seconds = tenth / 10
        before = len(caplog.records)
        waiting.say(Unreachable("no answer"), 300.0 - clock.seconds)
        if len(caplog.records) > before:
            said.append(clock.seconds)
    assert said == [0, 1, 2, 4, 8, 16, 32, 64, 128]
    assert "Waited" not in caplog.records[0].getMessage()
    assert "Waited 8 s so far. Trying again for up to 292 s" in caplog.records[4].getMessage()


def test_a_client_whose_server_comes_back_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    waiting = Waiting()
    answers = iter([503, 503, 200, 503, 200, 200])
    transport = httpx2.MockTransport(lambda request: as_response(next(answers), {}))
    with httpx2.Client(base_url="http://rm", transport=transport) as client:
        for _ in range(3):
            send(client, client.build_request("GET", "/x"), QUICK, waiting)
    said = [record.getMessage() for record in caplog.records]
    assert ["answers again" in message for message in said] == [False, True, False, True]


@pytest.mark.parametrize("fault", [httpx2.DecodingError, httpx2.LocalProtocolError])
def test_an_exchange_that_is_not_http_is_an_error_of_ours_and_not_repeated(
    fault: type[httpx2.HTTPError],
) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise fault("garbled")

    tries, error = count_tries(handler, QUICK, use_async=False)
    assert tries == 1
    assert isinstance(error, InvalidReply)
    assert "garbled" in str(error)
