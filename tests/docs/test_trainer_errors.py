"""The messages in the tables of errors of docs/trainers/: each is provoked, with the trainer's own
client where the trainer says it, or is on the list of those that were read in the trainer's
code."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import torch

from candor.client.nemo import gym_reward
from candor.client.rows import RewardServer
from candor.client.trl import reward_function
from candor.client.trl_advantages import advantage_functions
from candor.client.verifiers import candor_reward
from candor.client.verl import compute_score
from candor.flags import UsageError
from candor.jobs.check.recorded import recorded
from candor.jobs.running.processes import free_port
from candor.methods import Use
from candor.scoring.served import ServedProbe
from candor.settings import Settings
from tests.client.asking import QUESTION, run
from tests.docs.trainer_pages import INDEX, PAGES, error_messages, text_of
from tests.service.serving import load_tiny, loaded_probe, running, tiny_app
from tests.service.trainers.clients import CLIENTS

READ = {
    "reward_model_group is required": "openrlhf/trainer/ppo_utils/experience_maker.py",
    "remote_rm failed after 10 attempts:": "slime/rollout/rm_hub/__init__.py",
    "Please provide full url.": "src/llamafactory/train/trainer_utils.py",
    "Request error for 5 times, returning None. Please check the API server.": (
        "openrlhf/utils/agent.py"
    ),
}
"""Messages of trainers that are not installed here, and where they stand."""

TEXT = [{"role": "user", "content": "Is it good?"}, {"role": "assistant", "content": "Yes."}]
FOREIGN = {"query": ["<start_of_turn>model\nYes<end_of_turn>"]}


class Traced:
    """A trace of verifiers, with the user's message alone."""

    messages = (SimpleNamespace(model_dump=lambda **_: dict(TEXT[0])),)


def rollout(*items: dict[str, Any]) -> Any:
    return SimpleNamespace(
        responses_create_params=SimpleNamespace(model_dump=lambda: {"input": [TEXT[0]]}),
        response=SimpleNamespace(model_dump=lambda: {"output": [*items]}),
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url


@pytest.fixture(scope="module")
def keyed() -> Iterator[str]:
    with running(tiny_app(api_key="s3cret")) as url:
        yield url


@pytest.fixture(scope="module")
def loading() -> Iterator[str]:
    go = threading.Event()

    def load(metrics: Any) -> Any:
        go.wait(300)
        return load_tiny(metrics)

    with running(tiny_app(load), ready=False) as url:
        yield url
        go.set()


@pytest.fixture(scope="module")
def at_zero() -> Iterator[str]:
    """`--method advantage` without a strength."""
    probe = ServedProbe(loaded_probe("sycophancy"), 0.0, use=Use("advantage"))
    with running(tiny_app(lambda metrics: load_tiny(metrics, served={"sycophancy": probe}))) as url:
        yield url


def posted(url: str, path: str, body: Any, **headers: str) -> str:
    answer = httpx2.post(url + path, json=body, headers=headers, timeout=60)
    assert answer.status_code >= 400
    return str(answer.json()["error"]["message"])


def raised(call: Callable[[], Any]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return f"{caught.typename}: {caught.value}"


def adapter(call: Callable[[], Any]) -> str:
    return raised(lambda: run(call))


def client(name: str, url: str) -> str:
    """What a trainer's own client says of a recorded body."""
    one = next(one for one in recorded() if one.client == name)
    return raised(lambda: CLIENTS[name](url, one.body, 0))


def from_servers(url: str, keyed: str, loading: str) -> list[str]:
    """What servers say."""
    long = {"prompts": ["the sea " * 300], "responses": ["Yes."]}
    return [
        posted(keyed, "/get_reward", {"query": []}),
        posted(url, "/get_reward", {"query": []}, Host="reward-host:8000"),
        posted(url, "/get_reward", FOREIGN),
        posted(url, "/get_reward", {"query": [], "temperature": 1}),
        posted(url, "/get_reward", long),
        posted(loading, "/get_reward", {"query": []}),
        posted(url, "/classify", {"messages": TEXT[:1]}),
        posted(url, "/classify", {"text": "a", "input_ids": [1]}),
        posted(url, "/predict", {"inputs": "a", "truncate": True, "truncation_direction": "Right"}),
        httpx2.post(
            f"{url}/v1/rewards", content=b"{'a'", headers={"Content-Type": "application/json"}
        ).text,
        httpx2.post(f"{url}/v1/rewards", data={"a": "b"}).text,
    ]


def from_trainers(url: str, keyed: str) -> list[str]:
    """What trainers that take a URL say."""
    return [
        client("openrlhf_unreadable", f"{url}/get_reward"),
        client("align_anything", f"{keyed}/get_reward"),
        client("llama_factory", f"{keyed}/v1/score/evaluation"),
        client("slime_keyed", f"{url}/slime"),
        # slime makes a tensor of the samples' rewards (slime/ray/rollout.py).
        raised(lambda: torch.tensor([{"reward": 1.0}], dtype=torch.float)),
    ]


def from_adapters(url: str, at_zero: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What adapters say and write to the log."""
    one = {"prompts": [TEXT[:1]], "completions": [[TEXT[1]]]}
    said = [
        adapter(lambda: compute_score("a", "Yes.", extra_info={}, url=url)),
        adapter(lambda: compute_score("a", "Yes.", extra_info={"prompt": QUESTION})),
        adapter(lambda: candor_reward(Traced(), server=RewardServer(url))),
        adapter(lambda: gym_reward(rollout(), server=RewardServer(url))),
        adapter(
            lambda: gym_reward(rollout({"type": "image_generation_call"}), server=RewardServer(url))
        ),
        adapter(lambda: reward_function(url)(prompts=["Is it good?"], completions=["Yes."])),
        adapter(lambda: advantage_functions(url)[1](**one)),
        adapter(lambda: advantage_functions(at_zero)[1](**one)),
    ]
    away = RewardServer(f"http://127.0.0.1:{free_port()}", patience_s=1.0)
    with caplog.at_level(logging.WARNING, logger="candor.client"):
        adapter(lambda: away.reward(TEXT[:1], "Yes."))
    return [*said, caplog.text]


def test_every_message_of_the_tables_is_said(
    url: str,
    keyed: str,
    loading: str,
    at_zero: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CANDOR_REWARD_URL", raising=False)
    said = "\n".join(
        [
            *from_servers(url, keyed, loading),
            *from_trainers(url, keyed),
            *from_adapters(url, at_zero, caplog),
        ]
    )
    messages = {one: page.stem for page in [INDEX, *PAGES] for one in error_messages(page)}
    assert len(messages) > 20
    assert READ.keys() <= messages.keys()
    missing = {one: page for one, page in messages.items() if one not in READ and one not in said}
    assert missing == {}
    assert "a message that nobody says" not in said


def test_the_start_without_a_key_says_what_the_index_says() -> None:
    with pytest.raises(UsageError) as caught:
        Settings(model="m", host="0.0.0.0")
    assert f"`{caught.value}`" in text_of(INDEX)
