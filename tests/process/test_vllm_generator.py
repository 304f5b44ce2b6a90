"""A real vLLM as the generator, driven by the client the jobs use."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import httpx2
import psutil
import pytest
from transformers import AutoTokenizer

from candor.client import AsyncGeneratorClient, Completion, Retry, WrongModel
from candor.jobs.running.processes import free_port, running
from demo.commands import server_environment, vllm
from tests.paths import ROOT
from tests.service.serving import wait_for

GENERATOR = ROOT / "build" / "demo" / "generator"

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
if not (ROOT / ".venv-vllm" / ".installed").is_file():
    pytest.skip("vLLM is not installed: `make vllm`", allow_module_level=True)
if not GENERATOR.is_dir():
    pytest.skip("build/demo/generator is not there: `make assets`", allow_module_level=True)

MESSAGES = [{"role": "user", "content": "Name a colour."}]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM as `make demo GENERATOR=vllm` starts it, without the compilation."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the command names .venv-vllm from here
        with running(
            [*vllm(GENERATOR, "generator", eager=True), f"--port={port}"],
            ready_url=f"{url}/health",
            log=tmp_path_factory.mktemp("vllm") / "log",
            timeout_s=420,
            environment=server_environment(),
        ) as process:
            assert left_of(process.pid)
            yield url
        wait_for(lambda: left_of(process.pid) == [])


def left_of(group: int) -> list[str]:
    """Processes of vLLM's session that still run: its engine is a process of its own."""
    left = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process.name())
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return left


def draw(url: str, model: str = "generator", seed: int = 0, prefix: str = "") -> list[Completion]:
    async def run() -> list[Completion]:
        async with AsyncGeneratorClient(url, model=model, retry=Retry(budget_s=60)) as client:
            return await client.complete(
                MESSAGES, n=4, temperature=0.8, max_tokens=12, seed=seed, prefix=prefix
            )

    return asyncio.run(run())


def test_n_samples_of_one_prompt_come_back(url: str) -> None:
    drawn = draw(url)
    assert len(drawn) == 4
    assert len({one.text for one in drawn}) > 1
    assert all(one.text for one in drawn)
    assert {one.finish_reason for one in drawn} <= {"stop", "length"}
    assert draw(url, seed=1) != drawn


def test_a_response_prefix_is_continued_and_is_not_sent_back_twice(url: str) -> None:
    """The prompt ends with the prefix: it is longer by the prefix's tokens and by nothing else."""
    prefix = "The colour that I like best is"
    drawn = draw(url, prefix=prefix)
    assert all(one.text.startswith(prefix) for one in drawn)
    assert not any(one.text.removeprefix(prefix).lstrip().startswith("The colour") for one in drawn)
    assert not all(one.text.startswith(prefix) for one in draw(url))
    turns = [*MESSAGES, {"role": "assistant", "content": prefix}]
    left_open = {"messages": turns, "add_generation_prompt": False, "continue_final_message": True}
    body = {"model": "generator", "max_tokens": 1}
    plain, longer = (
        httpx2.post(f"{url}/v1/chat/completions", json=body | change, timeout=60).json()["usage"]
        for change in ({"messages": MESSAGES}, left_open)
    )
    tokens = AutoTokenizer.from_pretrained(GENERATOR)(prefix).input_ids
    assert longer["prompt_tokens"] - plain["prompt_tokens"] == len(tokens)


def test_a_model_it_does_not_serve_is_refused_by_client_and_by_server(url: str) -> None:
    with pytest.raises(WrongModel, match="serves generator, not smollm2"):
        draw(url, model="smollm2")
    body = {"model": "smollm2", "messages": MESSAGES, "max_tokens": 1}
    assert httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code == 404
    served = body | {"model": "generator"}
    assert httpx2.post(f"{url}/v1/chat/completions", json=served, timeout=60).status_code == 200


def test_seeded_requests_that_do_not_fit_one_prefill_do_not_kill_it(url: str) -> None:
    """As the demo asks: four long prompts at a time, 16 seeded samples each."""

    async def run() -> list[list[Completion]]:
        async with AsyncGeneratorClient(url, model="generator", retry=Retry(budget_s=5)) as client:
            asked = [
                client.complete(
                    [{"role": "user", "content": f"Comment on poem {number}. " + "The sea. " * 60}],
                    n=16,
                    temperature=0.8,
                    max_tokens=4,
                    seed=number,
                )
                for number in range(4)
            ]
            return await asyncio.gather(*asked)

    assert [len(drawn) for drawn in asyncio.run(run())] == [16] * 4
