"""The demo's generator over a real socket, asked by the client the jobs use."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from candor.client import AsyncGeneratorClient, Completion, PermanentError, Retry, WrongModel
from candor.jobs.generator.server import create_generator
from candor.jobs.running.processes import candor, free_port, running
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.tiny import BOS, END, EOS, START, save_tiny, tiny_tokenizer

MESSAGES = [{"role": "user", "content": "What do you think of this poem?"}]
BODY: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 4}
ONCE = Retry(budget_s=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("lm"), tiny_lm(), tiny_tokenizer())


@contextmanager
def serving(folder: Path, api_key: str | None = None) -> Iterator[str]:
    """uvicorn in a thread, as `candor generator` starts it."""
    port = free_port()
    app = create_generator(folder, "tiny", "cpu", api_key)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder) as url:
        yield url


def test_with_a_key_every_route_but_health_asks_for_it(folder: Path) -> None:
    def statuses(**headers: str) -> list[int]:
        return [
            httpx2.get(f"{url}/health", headers=headers).status_code,
            httpx2.get(f"{url}/v1/models", headers=headers).status_code,
            httpx2.get(f"{url}/nothing", headers=headers).status_code,
            httpx2.post(f"{url}/v1/chat/completions", json=BODY, headers=headers).status_code,
        ]

    with serving(folder, "s3cret") as url:
        assert statuses() == [200, 401, 401, 401]
        for wrong in ("Bearer s3cre", "Bearer s3cret2", "Bearer", "s3cret", "Basic s3cret"):
            assert statuses(Authorization=wrong) == [200, 401, 401, 401], wrong
        assert statuses(Authorization="bearer s3cret") == [200, 200, 404, 200]
        with pytest.raises(PermanentError, match=r"401.*API key"):
            draw(url)
        assert len(draw(url, api_key="s3cret")) == 3


def test_a_turn_to_be_continued_is_left_open_and_the_samples_follow_it(url: str) -> None:
    """The control is the same turn closed, after which another assistant turn begins."""
    turns = [*MESSAGES, {"role": "assistant", "content": "I think it is"}]
    left_open = {"messages": turns, "add_generation_prompt": False, "continue_final_message": True}
    answers = [
        httpx2.post(f"{url}/v1/chat/completions", json=BODY | {"seed": 3} | change).json()
        for change in (left_open, {"messages": turns})
    ]
    tokens = [answer["usage"]["prompt_tokens"] for answer in answers]
    after = tiny_tokenizer()(END + "\n" + START + "assistant\n").input_ids
    assert tokens[1] - tokens[0] == len(after)
    (drawn,) = draw(url, n=1, max_tokens=4, seed=3, temperature=1.0, prefix="I think it is")
    assert drawn.text == "I think it is" + answers[0]["choices"][0]["message"]["content"]


def draw(
    url: str, model: str = "tiny", api_key: str | None = None, **changes: Any
) -> list[Completion]:
    settings: dict[str, Any] = {"n": 3, "temperature": 1.0, "max_tokens": 8, "seed": 0}

    async def run() -> list[Completion]:
        async with AsyncGeneratorClient(url, model=model, api_key=api_key, retry=ONCE) as client:
            return await client.complete(MESSAGES, **(settings | changes))

    return asyncio.run(run())


def test_n_texts_come_back_and_a_seed_gives_them_again(url: str) -> None:
    first = draw(url, n=5)
    assert len(first) == 5
    assert len({one.text for one in first}) > 1
    assert draw(url, n=5) == first
    assert draw(url, n=5, seed=1) != first


def test_a_text_that_was_cut_says_so(url: str) -> None:
    cut = draw(url, n=8, max_tokens=2)
    assert {one.finish_reason for one in cut} <= {"length", "stop"}
    assert "length" in {one.finish_reason for one in cut}
    long = draw(url, n=16, max_tokens=120, temperature=3.0)
    assert "stop" in {one.finish_reason for one in long}
    # Special tokens that were drawn are no text.
    assert not [one for one in long for special in (BOS, EOS, START, END) if special in one.text]


def test_a_model_it_does_not_serve_is_refused_by_client_and_by_server(url: str) -> None:
    with pytest.raises(WrongModel, match="serves tiny, not other"):
        draw(url, model="other")
    answer = httpx2.post(f"{url}/v1/chat/completions", json=BODY | {"model": "other"})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found"
    assert httpx2.post(f"{url}/v1/chat/completions", json=BODY).status_code == 200


def test_the_reply_counts_the_tokens_of_prompt_and_samples(url: str) -> None:
    body = BODY | {"n": 3, "max_tokens": 1}
    answer = httpx2.post(f"{url}/v1/chat/completions", json=body).json()
    ids = tiny_tokenizer().apply_chat_template(MESSAGES, add_generation_prompt=True)
    usage = answer["usage"]
    assert usage["prompt_tokens"] == len(ids["input_ids"])
    assert usage["completion_tokens"] <= 3
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stop_text_ends_a_sample_and_stays_only_where_asked(url: str) -> None:
    def texts(**changes: Any) -> list[tuple[str, str]]:
        answer = httpx2.post(f"{url}/v1/chat/completions", json=BODY | {"n": 8} | changes).json()
        return [(one["message"]["content"], one["finish_reason"]) for one in answer["choices"]]

    whole = texts()
    stop = next(each for text, _ in whole for each in text[1:] if each.isascii())
    for (text, reason), (cut, cut_reason), (kept, _) in zip(
        whole, texts(stop=[stop]), texts(stop=[stop], include_stop_str_in_output=True), strict=True
    ):
        before, found, _ = text.partition(stop)
        assert cut == before
        assert kept.startswith(before + found)
        assert cut_reason == ("stop" if found else reason)


@pytest.mark.parametrize(
    "change",
    [
        {"presence_penalty": 1.0},
        {"stream": True},
        {"n": 0},
        {"temperature": -1},
        {"top_p": 0},
        {"max_tokens": 0},
        {"messages": []},
        {"echo": True},
        {"stop": [""]},
        {"add_generation_prompt": False},
    ],
)
def test_a_field_it_does_not_know_or_cannot_honour_is_refused(
    url: str, change: dict[str, Any]
) -> None:
    answer = httpx2.post(f"{url}/v1/chat/completions", json=BODY | change)
    assert answer.status_code == 422
    assert next(iter(change)) in answer.text


def test_requests_at_once_are_answered_as_each_would_be_alone(url: str) -> None:
    alone = [draw(url, seed=seed) for seed in range(4)]

    async def together() -> list[list[Completion]]:
        async with AsyncGeneratorClient(url, model="tiny", retry=ONCE) as client:
            return await asyncio.gather(
                *(
                    client.complete(MESSAGES, n=3, temperature=1.0, max_tokens=8, seed=seed)
                    for seed in range(4)
                )
            )

    assert asyncio.run(together()) == alone


def test_a_refusal_of_the_server_reaches_the_caller_of_the_client(url: str) -> None:
    with pytest.raises(PermanentError, match="422"):
        draw(url, max_tokens=0)


def test_the_command_serves_under_the_folders_name(folder: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = candor("generator", f"--model={folder}", f"--port={port}", "--device=cpu")
    with running(
        command,
        ready_url=f"{url}/health",
        log=tmp_path / "log",
        timeout_s=120,
        environment=os.environ | {"OMP_NUM_THREADS": "1"},
    ):
        assert len(draw(url, model=folder.name, n=2)) == 2
