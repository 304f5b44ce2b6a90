"""The TRL adapter, called as TRL calls it, against a live server (TRL itself:
tests/process/test_trl.py)."""

from __future__ import annotations

import dataclasses
import inspect
import json
from multiprocessing.reduction import ForkingPickler
from statistics import fmean
from typing import Any

import pytest

from candor.client import ModelChanged, PermanentError, RewardClient
from candor.client.rows import RewardServer
from candor.client.trl import reward_function
from tests.client.asking import QUESTION, REPLIES, TOO_LONG, native, run
from tests.imports import HEAVY, loaded_by
from tests.service.serving import metric, running, tiny_app

SERVED = 'candor_requests_total{route="/v1/rewards",status="200"}'


def said(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def called_by_trl(
    url: str, prompts: Any, completions: Any, columns: Any = None, **settings: Any
) -> tuple[Any, Any]:
    """Rewards and logged metrics of one call as `GRPOTrainer._calculate_rewards` makes it (trl
    1.16.0): data set columns and trainer state come along."""
    logged: dict[str, float] = {}
    reward = reward_function(url, **settings)

    async def call() -> Any:
        return await reward(
            prompts=prompts,
            completions=completions,
            completion_ids=[[1]] * len(prompts),
            url=["a column of that name"] * len(prompts),
            **(columns or {}),
            trainer_state=object(),
            log_extra=lambda column, values: None,
            log_metric=logged.__setitem__,
        )

    return run(call), logged


def test_trl_conversations_get_the_servers_rewards_and_every_probe_is_logged(url: str) -> None:
    rewards, logged = called_by_trl(url, [QUESTION] * 3, said(*REPLIES))
    expected = native(url, REPLIES, messages=QUESTION)
    assert rewards == pytest.approx([one.reward for one in expected], abs=1e-5)
    assert logged["candor/num_failed"] == 0
    for name, of in (
        ("base_reward", lambda one: one.base_reward),
        ("penalty", lambda one: one.penalty),
        ("score/sycophancy", lambda one: one.probes["sycophancy"].score),
        ("score/length", lambda one: one.probes["length"].score),
        ("lambda/sycophancy", lambda one: one.probes["sycophancy"].lambda_),
    ):
        assert logged[f"candor/{name}"] == pytest.approx(fmean(of(one) for one in expected))
    assert "candor/score/unseen" not in logged  # a monitor


def test_trl_plain_texts_are_a_templated_prompt_and_a_response(url: str) -> None:
    texts = [" about the sea", " good"]
    rewards, _ = called_by_trl(url, ["The poem is"] * 2, texts, templated=True)
    expected = native(url, texts, prompt="The poem is", templated=True)
    assert rewards == pytest.approx([one.reward for one in expected], abs=1e-5)
    with pytest.raises(PermanentError, match="holds no assistant turn"):
        called_by_trl(url, ["The poem is"] * 2, texts)  # every row: a setting is wrong, not a row


def test_turns_of_a_completion_before_its_last_are_context(url: str) -> None:
    turns = [{"role": "assistant", "content": "Which one?"}, {"role": "user", "content": "This."}]
    rewards, _ = called_by_trl(url, [QUESTION], [[*turns, *said("It is good.")[0]]])
    (expected,) = native(url, ["It is good."], messages=[*QUESTION, *turns])
    assert rewards == pytest.approx([expected.reward], abs=1e-5)
    (other,) = native(url, ["It is good."], messages=QUESTION)
    assert abs(other.reward - expected.reward) > 1e-3


def test_rows_that_cannot_be_scored_are_none_and_the_others_are_native(url: str) -> None:
    tool = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look"}}]}
    completions = [*said(REPLIES[0], "", TOO_LONG), [tool], *said(REPLIES[1])]
    rewards, logged = called_by_trl(url, [QUESTION] * 5, completions)
    assert rewards[1:4] == [None, None, None]
    expected = native(url, REPLIES[:2], messages=QUESTION)
    assert [rewards[0], rewards[4]] == pytest.approx([one.reward for one in expected], abs=1e-5)
    assert logged["candor/num_failed"] == 3


def test_a_long_context_fails_its_rows_unless_it_may_be_cut(url: str) -> None:
    prompts = ["x " * 400, "The poem is"]
    rewards, _ = called_by_trl(url, prompts, [" good", " good"], templated=True)
    assert rewards[0] is None
    assert rewards[1] is not None
    cut, _ = called_by_trl(url, prompts, [" good", " good"], truncation="left", templated=True)
    assert None not in cut


def test_rows_of_one_prompt_are_one_item_so_that_the_closed_form_sees_them(url: str) -> None:
    """Alone no row has a penalty by the closed form: it takes both a flagged and an unflagged."""
    scores = [one.probes["sycophancy"].score for one in native(url, REPLIES, messages=QUESTION)]
    form = {"closed_form": {"beta": 1.0, "threshold": sorted(scores)[1]}}
    before = metric(url, SERVED)
    together, _ = called_by_trl(url, [QUESTION] * 3, said(*REPLIES), penalties={"sycophancy": form})
    assert metric(url, SERVED) == before + 1
    expected = native(url, REPLIES, {"sycophancy": form}, messages=QUESTION)
    assert together == pytest.approx([one.reward for one in expected], abs=1e-5)
    assert {one.probes["sycophancy"].bounded for one in expected} == {0.0, 1.0}


def test_an_empty_completion_has_a_reward_where_that_is_asked_for(url: str) -> None:
    completions = said("", REPLIES[0])
    rewards, _ = called_by_trl(url, [QUESTION] * 2, completions, empty_response="score")
    with RewardClient(url) as client:
        items = [{"messages": QUESTION, "responses": ["", REPLIES[0]]}]
        expected = client.rewards(items, empty_response="score").results[0].responses
    assert rewards == pytest.approx([one.reward for one in expected], abs=1e-5)
    assert called_by_trl(url, [QUESTION] * 2, completions)[0][0] is None  # the control


class City:
    """An environment, as GRPOTrainer takes it."""

    def reset(self) -> None: ...

    def get_reward(self) -> float:
        return 0.0

    def look(self, city: str) -> str:
        """Look.

        Args:
            city: Where to look.
        """
        return city

    def _inner(self) -> None: ...


LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Where to look."}},
            "required": ["city"],
        },
        "return": {"type": "string"},
    },
}


def test_the_rows_tools_are_sent_in_each_form_that_trl_has(tool_url: str) -> None:
    completions = said(*[REPLIES[0]] * 6)
    columns = {
        "tools": [[LOOK], json.dumps([LOOK]), None, [City().look], [], "[{]"],
        "environments": [None, None, City(), None, None, None],
    }
    rewards, logged = called_by_trl(tool_url, [QUESTION] * 6, completions, columns)
    (expected,) = native(tool_url, REPLIES[:1], messages=QUESTION, tools=[LOOK])
    (plain,) = native(tool_url, REPLIES[:1], messages=QUESTION)
    assert rewards[:4] == pytest.approx([expected.reward] * 4, abs=1e-5)
    assert rewards[4] == pytest.approx(plain.reward, abs=1e-5)
    assert abs(plain.reward - expected.reward) > 1e-3
    assert rewards[5] is None
    assert logged["candor/num_failed"] == 1


def test_a_template_without_tools_ends_the_run_and_one_such_row_does_not(url: str) -> None:
    with pytest.raises(PermanentError, match="leaves out 'tools'"):
        called_by_trl(url, [QUESTION] * 2, said(*REPLIES[:2]), {"tools": [[LOOK]] * 2})
    rewards, _ = called_by_trl(url, [QUESTION] * 2, said(*REPLIES[:2]), {"tools": [[LOOK], []]})
    assert rewards[0] is None
    assert rewards[1] is not None


def test_what_no_row_could_cure_is_raised(url: str) -> None:
    with pytest.raises(PermanentError, match="unknown_probe"):
        called_by_trl(url, [QUESTION], said("a"), penalties={"flattery": {"lambda": 1.0}})
    with (
        running(tiny_app(api_key="right" * 8)) as locked,
        pytest.raises(PermanentError, match="unauthorized"),
    ):
        called_by_trl(locked, [QUESTION], said("a"), api_key="wrong" * 8)


def test_rewards_of_two_models_are_not_mixed() -> None:
    """The same address answers with other weights at the second call."""
    app = tiny_app()

    async def ask_twice(server: RewardServer, *, change: bool) -> None:
        await server.rewards([(QUESTION, "a")])
        if change:
            rewarder = app.state.server.rewarder
            rewarder.model = dataclasses.replace(rewarder.model, weights_sha256="1" * 64)
        await server.rewards([(QUESTION, "a")])

    with running(app) as url:
        run(lambda: ask_twice(RewardServer(url), change=False))
        with pytest.raises(ModelChanged):
            run(lambda: ask_twice(RewardServer(url), change=True))


def test_a_reward_function_can_be_sent_to_a_rollout_process(url: str) -> None:
    again = ForkingPickler.loads(ForkingPickler.dumps(reward_function(url)))
    assert inspect.iscoroutinefunction(again)
    (value,) = run(lambda: again(prompts=[QUESTION], completions=said("a")))
    assert value == pytest.approx(native(url, ["a"], messages=QUESTION)[0].reward, abs=1e-5)


def test_the_key_stays_out_of_what_a_trainer_logs() -> None:
    assert "s3cret" not in repr(reward_function("http://rm", api_key="s3cret"))


def test_the_adapters_import_neither_a_trainer_nor_torch() -> None:
    loaded = loaded_by(
        "import candor.client.trl, candor.client.verl, candor.client.verifiers, candor.client.nemo"
    )
    trainers = {"trl", "verl", "verifiers", "nemo_gym", "nemo_rl", "ray", "datasets"}
    assert loaded.isdisjoint(HEAVY | trainers)
