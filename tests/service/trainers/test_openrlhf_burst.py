"""From v0.9.1 on, OpenRLHF sends each sample in a connection of its own, all at once."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from tests.service.trainers.clients import openrlhf_fetch, openrlhf_read
from tests.service.trainers.golden import native

NUM_SAMPLES = 500


def sample(number: int) -> tuple[str, str]:
    """A question and an answer, different for every number; four answers per question."""
    return f"Is line {number // 4} of this poem good?", f"Line {number} is {number % 7} times good."


def body(number: int) -> dict[str, Any]:
    question, answer = sample(number)
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return {"query": [prompt + answer + "<|im_end|>"], "prompts": [prompt], "labels": [None]}


def test_500_samples_at_once_all_get_their_own_reward_and_none_is_tried_again(url: str) -> None:
    tries: list[str] = []

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(
            *(
                openrlhf_fetch(f"{url}/get_reward", body(number), 1.0, tries)
                for number in range(NUM_SAMPLES)
            )
        )

    got = [openrlhf_read(answer) for answer in asyncio.run(all_at_once())]
    assert len(tries) == NUM_SAMPLES
    items = [
        {"messages": [{"role": "user", "content": question}], "responses": [answer]}
        for question, answer in (sample(number) for number in range(NUM_SAMPLES))
    ]
    expected = [one["reward"] for one in native(url, items)]
    assert got == pytest.approx(expected, abs=1e-5)
    # In order: the test would notice if two neighbours were exchanged.
    assert all(abs(a - b) > 1e-4 for a, b in pairwise(expected))
