"""What TRL is given for a batch: rewards in order, None for a failed row, an error when nothing can
be asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from candor.client.errors import ModelChanged, RetryableError
from candor.client.rows import RewardServer
from candor.jobs.rl.reward import scheduled_reward_function
from candor.jobs.rl.strength import Schedule
from tests.client.replies import numbers
from tests.jobs.stub import Stub, running_stub

PROMPT = [{"role": "user", "content": "Is the poem good?"}]
OTHER = [{"role": "user", "content": "What is the sea?"}]


@pytest.fixture
def stub() -> Iterator[Stub]:
    with running_stub() as server:
        yield server


class Batch:
    """A call as TRL makes it, and what was logged meanwhile."""

    def __init__(self, prompts: list[Any], texts: list[str]) -> None:
        self.prompts = prompts
        self.completions = [[{"role": "assistant", "content": text}] for text in texts]
        self.logged: dict[str, list[float]] = defaultdict(list)

    def rewards(self, reward: Any, step: int = 0) -> list[float | None]:
        found: list[float | None] = reward(
            prompts=self.prompts,
            completions=self.completions,
            completion_ids=[[1]] * len(self.prompts),
            trainer_state=SimpleNamespace(global_step=step),
            log_extra=lambda column, values: None,
            log_metric=lambda name, value: self.logged[name].append(value),
        )
        return found


def test_permuted_penalties_are_the_groups_own_and_go_to_others(stub: Stub) -> None:
    """The null arm: the same penalties within a prompt, in another order, and never another's."""
    texts = ["yes", "no", "blue", "deep", "a sea", "wide", "salt", "wet"]
    batch = Batch([PROMPT] * 4 + [OTHER] * 4, texts)
    server = RewardServer(stub.url, patience_s=0.0)
    schedule = Schedule({"sycophancy": {"lambda": 0.5}}, 0)
    with scheduled_reward_function(server, schedule, 7) as reward:
        seen = {tuple(batch.rewards(reward, step)) for step in range(6)}
        again = tuple(batch.rewards(reward, 0))
    told = [numbers(text, 0.5) for text in texts]
    assert again in seen
    assert len(seen) > 1
    for rewards in seen:
        for group in (slice(0, 4), slice(4, 8)):
            penalties = [
                one["base_reward"] - got
                for one, got in zip(told[group], rewards[group], strict=True)
            ]
            own = [one["base_reward"] - one["reward"] for one in told[group]]
            assert sorted(penalties) == pytest.approx(sorted(own))
    assert any(list(rewards) != pytest.approx([one["reward"] for one in told]) for rewards in seen)


def test_an_opening_goes_to_the_server_as_part_of_the_response(stub: Stub) -> None:
    opened = [*PROMPT, {"role": "assistant", "content": "It is"}]
    batch = Batch([opened, opened], [" good.", " bad."])
    with reward_of(stub.url) as reward:
        found = batch.rewards(reward)
    plain = Batch([PROMPT, PROMPT], ["It is good.", "It is bad."])
    with reward_of(stub.url) as reward:
        assert found == plain.rewards(reward)


def reward_of(url: str, full: float = 0.5, warmup_steps: int = 0, patience_s: float = 0.0) -> Any:
    schedule = Schedule({"sycophancy": {"lambda": full}}, warmup_steps)
    return scheduled_reward_function(RewardServer(url, patience_s=patience_s), schedule)


def test_a_group_is_one_item_and_rewards_come_back_in_order(stub: Stub) -> None:
    batch = Batch([PROMPT, PROMPT, OTHER, OTHER], ["yes", "no", "blue", "deep"])
    with reward_of(stub.url) as reward:
        found = batch.rewards(reward)
    told = [numbers(text, 0.5) for text in ("yes", "no", "blue", "deep")]
    assert found == [one["reward"] for one in told]
    assert [len(body["items"][0]["responses"]) for body in stub.bodies] == [2, 2]
    assert batch.logged["candor/base_reward"] == [sum(one["base_reward"] for one in told) / 4]
    assert batch.logged["candor/score/sycophancy"] == [
        sum(one["probes"]["sycophancy"]["score"] for one in told) / 4
    ]
    assert batch.logged["candor/num_failed"] == [0]


def test_the_penalty_of_the_step_is_asked_for_and_logged(stub: Stub) -> None:
    batch = Batch([PROMPT], ["yes"])
    with reward_of(stub.url, full=2.0, warmup_steps=4) as reward:
        found = [batch.rewards(reward, step)[0] for step in (0, 3, 9)]
    assert [body["penalties"]["sycophancy"]["lambda"] for body in stub.bodies] == [0.5, 2.0, 2.0]
    assert found == [numbers("yes", strength)["reward"] for strength in (0.5, 2.0, 2.0)]
    assert batch.logged["candor/lambda/sycophancy"] == [0.5, 2.0, 2.0]


def test_a_response_that_cannot_be_scored_is_none_and_the_others_are_scored(stub: Stub) -> None:
    stub.refused_texts = {"no"}
    batch = Batch([PROMPT, PROMPT, PROMPT], ["yes", "no", "perhaps"])
    with reward_of(stub.url) as reward:
        assert batch.rewards(reward) == [
            numbers("yes", 0.5)["reward"],
            None,
            numbers("perhaps", 0.5)["reward"],
        ]
    assert batch.logged["candor/num_failed"] == [1]


def test_where_no_response_can_be_scored_there_is_no_mean(stub: Stub) -> None:
    stub.refused_texts = {"no"}
    batch = Batch([PROMPT], ["no"])
    with reward_of(stub.url) as reward:
        assert batch.rewards(reward) == [None]
    assert set(batch.logged) == {"candor/num_failed"}


def test_a_server_that_stays_away_ends_the_run_and_one_that_comes_back_does_not(
    stub: Stub,
) -> None:
    stub.answers = [503]
    with reward_of(stub.url) as reward, pytest.raises(RetryableError):
        Batch([PROMPT], ["yes"]).rewards(reward)
    stub.answers = [503]
    with reward_of(stub.url, patience_s=30) as reward:
        assert Batch([PROMPT], ["yes"]).rewards(reward) == [numbers("yes", 0.5)["reward"]]


def test_other_weights_than_at_the_first_step_end_the_run(stub: Stub) -> None:
    with reward_of(stub.url) as reward:
        Batch([PROMPT], ["yes"]).rewards(reward)
        stub.revision = "cd" * 32
        with pytest.raises(ModelChanged):
            Batch([PROMPT], ["yes"]).rewards(reward, step=1)
