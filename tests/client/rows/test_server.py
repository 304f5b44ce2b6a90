"""One outcome per row: which failures a row is to blame for, and which end the call."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from candor.client.errors import ClientError, InvalidReply, PermanentError, Unreachable
from candor.client.rows import RewardServer, Unscorable
from candor.jobs.running.processes import free_port
from tests.client.asking import GOOD, QUESTION, REPLIES, TOO_LONG, ask, native, run, said
from tests.client.replies import envelope, reward_reply
from tests.jobs.stub import Stub, running_stub

SURROGATE = "a poem \ud83d of the sea"


MALFORMED: dict[str, tuple[Any, Any]] = {
    "surrogate in the response": (QUESTION, SURROGATE),
    "surrogate in the response's message": (QUESTION, said(SURROGATE)),
    "surrogate in a message": ([{"role": "user", "content": SURROGATE}], "good"),
    "surrogate in the prompt": (SURROGATE, "good"),
    "surrogate in a part": (QUESTION, said([{"type": "text", "text": SURROGATE}])),
    "no response": (QUESTION, None),
    "a number": (QUESTION, 7),
    "bytes": (QUESTION, b"good"),
    "an empty conversation": (QUESTION, []),
    "a message without content": (QUESTION, {"role": "assistant"}),
    "a response of another field": (QUESTION, said("a", audio={"id": "x"})),
    "more than text after a text": ("a prompt", said(None, tool_calls=[{"function": {}}])),
    "a message with null content": (QUESTION, said(None)),
    "a message without a role": (QUESTION, {"content": "good"}),
    "the user's message": (QUESTION, {"role": "user", "content": "good"}),
    "a content that is a number": (QUESTION, said(3)),
    "a part without a text": (QUESTION, said([{"type": "text"}])),
    "a part that is a number": (QUESTION, said([3])),
    "an image": (QUESTION, said([{"type": "image_url", "image_url": "x"}])),
    "no prompt": (None, "good"),
    "a prompt without messages": ([], "good"),
    "a prompt of numbers": ([1, 2], "good"),
    "a prompt that is a number": (1.5, "good"),
    "a role that does not exist": ([{"role": "human", "content": "a"}], "good"),
    "a turn without a role": ([{"content": "a"}], "good"),
    "a turn without content": ([{"role": "user"}], "good"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_row_fails_alone_and_the_others_have_their_rewards(url: str, name: str) -> None:
    first, broken, last = ask(url, [GOOD, MALFORMED[name], (QUESTION, REPLIES[1])])
    assert isinstance(broken, Unscorable)
    assert broken.message
    assert "\ud83d" not in broken.message  # a log could not be written
    expected = native(url, REPLIES[:2], messages=QUESTION)
    rewards = [one.reward for one in (first, last) if not isinstance(one, ClientError)]
    assert rewards == pytest.approx([one.reward for one in expected], abs=1e-5)


def test_a_row_that_the_server_refuses_fails_alone_with_its_own_error(url: str) -> None:
    tool_first = [{"role": "tool", "content": "a"}]
    rows = [GOOD, (QUESTION, ""), (QUESTION, TOO_LONG), ("x " * 400, "good"), (tool_first, "a")]
    found = ask(url, rows, templated=True)
    types = [one.type if isinstance(one, PermanentError) else None for one in found]
    assert types[:4] == [None, "empty_response", "too_long", "too_long"]


def test_a_proxys_refusal_is_no_rows_where_no_row_has_a_reward() -> None:
    """nginx refuses bodies over 1 MiB with a page of its own: a step of nothing but None."""
    other = ([{"role": "user", "content": "Another?"}], "good")
    with running_stub() as stub:
        stub.answers = [413, 413]
        with pytest.raises(PermanentError, match="413"):
            ask(stub.url, [GOOD, other])
        stub.answers = [413]
        found = ask(stub.url, [GOOD, other])
    assert sorted(isinstance(one, PermanentError) for one in found) == [False, True]


CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "sea"}}}


def test_messages_go_to_the_server_with_all_that_its_template_reads() -> None:
    """Tool calls, null content, names, parts and reasoning, as they were given."""
    turns = [
        {"role": "developer", "content": "Be kind.", "name": None},
        {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "Look."}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "blue", "tool_call_id": "1"},
    ]
    replies = [
        said("It is blue."),
        said(None, tool_calls=[CALL]),
        said("Blue.", reasoning_content="hm"),
        said([{"type": "output_text", "text": "Bl", "annotations": []},
              {"type": "output_text", "text": "ue", "annotations": []}]),
    ]  # fmt: skip
    with running_stub() as stub:
        ask(stub.url, [(turns, reply) for reply in replies])
        (body,) = stub.bodies
    (item,) = body["items"]
    assert item["messages"] == [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "Look."}]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "content": "blue", "tool_call_id": "1"},
    ]
    assert item["responses"] == [
        "It is blue.",
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": "Blue.", "reasoning_content": "hm"},
        "Blue",
    ]


def test_a_call_that_the_template_does_not_write_fails_its_row_alone(url: str) -> None:
    good, called = ask(url, [GOOD, (QUESTION, said(None, tool_calls=[CALL]))])
    assert not isinstance(good, ClientError)
    assert isinstance(called, PermanentError)
    assert called.type == "invalid_messages"


def test_prompts_from_data_frames_are_the_prompts_themselves(url: str) -> None:
    array = np.array(QUESTION, dtype=object)
    parts = [{"type": "text", "text": QUESTION[0]["content"]}]
    rows = [
        GOOD,
        (array, np.str_(REPLIES[0])),
        (tuple(QUESTION), REPLIES[0]),
        ([{"role": "user", "content": np.array(parts, dtype=object)}], REPLIES[0]),
    ]
    rewards = [one.reward for one in ask(url, rows) if not isinstance(one, ClientError)]
    assert len(rewards) == 4
    assert rewards == pytest.approx([rewards[0]] * 4, abs=1e-5)


Answer = Callable[[str, bytes], tuple[int, str, bytes]]


@contextmanager
def service(answer: Answer) -> Iterator[str]:
    """Some HTTP service: `answer` makes status, content type and body of path and body."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, content = answer(self.path, body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def candor(path: str, body: bytes) -> tuple[int, str, bytes]:
    """A right answer on every route that a client asks."""
    model = {"id": "tiny", "revision": "ab" * 32, "engine": "stub", "formula": "R - 0.5*S"}
    told: dict[str, Any] = {"status": "ready", "reason": None}
    if path == "/v1/models":
        told = {"data": [model]}
    elif path == "/v1/rewards":
        told = reward_reply(body)
    return 200, "application/json", json.dumps(told).encode()


def at_rewards(status: int, kind: str, content: bytes) -> Answer:
    """A Candor server but for the answer to `/v1/rewards`."""
    return lambda path, body: (
        (status, kind, content) if path == "/v1/rewards" else candor(path, body)
    )


HTML = b"<!doctype html><title>Sign in</title>"
BUG = json.dumps(envelope("internal_error", "a bug", retryable=False)).encode()
FOREIGN: dict[str, tuple[Answer, type[ClientError]]] = {
    "a web page on every path": (lambda path, body: (200, "text/html", HTML), InvalidReply),
    "JSON of another service": (lambda path, body: (200, "application/json", b"{}"), InvalidReply),
    "404 on every path": (lambda path, body: (404, "text/html", HTML), PermanentError),
    "a redirect": (lambda path, body: (307, "text/html", b""), PermanentError),
    "a web page for rewards": (at_rewards(200, "text/html", HTML), InvalidReply),
    "no results": (at_rewards(200, "application/json", b'{"results": []}'), InvalidReply),
    "401 for rewards": (at_rewards(401, "text/html", HTML), PermanentError),
    "403 for rewards": (at_rewards(403, "text/html", HTML), PermanentError),
    "404 for rewards": (at_rewards(404, "text/html", HTML), PermanentError),
    "429 for rewards": (at_rewards(429, "text/html", HTML), PermanentError),
    "502 for rewards": (at_rewards(502, "text/html", HTML), ClientError),
    "500 for every row": (at_rewards(500, "application/json", BUG), PermanentError),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_no_row_is_to_blame_for_is_raised_and_never_an_outcome(name: str) -> None:
    answer, kind = FOREIGN[name]
    with service(answer) as url, pytest.raises(kind) as caught:
        ask(url, [GOOD, (QUESTION, SURROGATE)], patience_s=0.2)
    assert not isinstance(caught.value, Unscorable)


def test_the_control_of_these_services_is_scored() -> None:
    with service(candor) as url:
        assert not isinstance(ask(url, [GOOD])[0], ClientError)


def test_a_server_error_that_only_some_rows_meet_is_theirs() -> None:
    def answer(path: str, body: bytes) -> tuple[int, str, bytes]:
        return (500, "application/json", BUG) if b"blue" in body else candor(path, body)

    with service(answer) as url:
        good, bad = ask(url, [(QUESTION, "good"), ([*QUESTION, said("and?")], "blue")])
    assert not isinstance(good, ClientError)
    assert isinstance(bad, PermanentError)
    assert bad.type == "internal_error"


def test_a_dead_server_is_raised_at_the_first_call_and_in_the_middle_of_a_run() -> None:
    with pytest.raises(Unreachable, match=r"no answer from GET .*/readyz"):
        ask(f"http://127.0.0.1:{free_port()}", [GOOD], patience_s=0)

    async def dies(server: RewardServer, stub: Stub) -> None:
        assert not isinstance((await server.rewards([GOOD]))[0], ClientError)
        stub.answers = [503] * 50
        await server.rewards([GOOD])

    with running_stub() as stub, pytest.raises(ClientError, match="gave up") as caught:
        run(lambda: dies(RewardServer(stub.url, patience_s=0.3), stub))
    assert caught.value.retryable
