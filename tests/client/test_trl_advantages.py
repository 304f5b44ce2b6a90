"""The penalty on the advantage side, as TRL calls the two functions (TRL itself:
tests/process/test_trl.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from candor.client.trl_advantages import advantage_functions
from candor.client.verl import compute_score
from candor.methods import Use
from candor.scoring.served import ServedProbe
from tests.client.asking import QUESTION, REPLIES, TOO_LONG, native, run
from tests.service.serving import load_tiny, loaded_probe, metric, running, tiny_app

SERVED = 'candor_requests_total{route="/v1/rewards",status="200"}'


def probes(use: Use, strength: float = 0.5) -> dict[str, ServedProbe]:
    return {"sycophancy": ServedProbe(loaded_probe("sycophancy", seed=1), strength, use=use)}


@pytest.fixture(scope="module")
def apart() -> Iterator[str]:
    served = probes(Use("advantage"))
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=served))) as url:
        yield url


def step(functions: Any, replies: list[str], logged: Any = None) -> list[list[float | None]]:
    """Both functions at once, as `GRPOTrainer._calculate_rewards` gathers them (trl 1.16.0)."""
    arguments: dict[str, Any] = {
        "prompts": [QUESTION] * len(replies),
        "completions": [[{"role": "assistant", "content": text}] for text in replies],
        "completion_ids": [[1]] * len(replies),
        "trainer_state": object(),
        "log_metric": lambda name, value: None if logged is None else logged.append((name, value)),
    }

    async def gathered() -> Any:
        return await asyncio.gather(*(function(**arguments) for function in functions))

    found: list[list[float | None]] = run(gathered)
    return found


def test_both_functions_share_one_request_and_log_it_once(apart: str) -> None:
    expected = native(apart, REPLIES, messages=QUESTION)
    before = metric(apart, SERVED)
    logged: list[tuple[str, float]] = []
    rewards, penalties = step(advantage_functions(apart), [*REPLIES], logged)
    assert metric(apart, SERVED) == before + 1
    assert rewards == pytest.approx([one.base_reward for one in expected], abs=1e-5)
    assert penalties == pytest.approx([one.advantage_penalty for one in expected], abs=1e-5)
    names = [name for name, _ in logged]
    assert len(names) == len(set(names))
    assert "candor/advantage_penalty" in names
    # The control: the two differ, and the next step asks again.
    assert rewards != pytest.approx(penalties, abs=1e-2)
    functions = advantage_functions(apart)
    assert step(functions, [*REPLIES]) != step(functions, [*reversed(REPLIES)])


def test_a_loop_that_has_ended_keeps_no_lock(apart: str) -> None:
    """One loop per step, in which both functions wait for one lock."""
    functions: Any = advantage_functions(apart)
    for number in range(3):
        step(functions, [f"{number}"])
    locks = functions[0].keywords["shared"]._locks
    assert locks is functions[1].keywords["shared"]._locks
    assert len(locks) == 1


def test_a_row_that_cannot_be_scored_has_neither(apart: str) -> None:
    rewards, penalties = step(advantage_functions(apart), [REPLIES[0], TOO_LONG])
    assert [value is None for value in rewards] == [False, True]
    assert [value is None for value in penalties] == [False, True]


@pytest.mark.parametrize(
    ("use", "strength", "words"),
    [
        (Use(), 0.5, "serve with --method advantage"),
        (Use("advantage"), 0.0, "serve with --kappa NAME=1"),
    ],
)
def test_a_server_without_an_advantage_penalty_ends_the_run(
    use: Use, strength: float, words: str
) -> None:
    served = probes(use, strength)
    app = tiny_app(lambda metrics: load_tiny(metrics, served=served))
    with running(app) as url, pytest.raises(ValueError, match=words):
        step(advantage_functions(url), [*REPLIES])


@pytest.mark.parametrize("use", [Use("advantage"), Use("screen", -100.0)], ids=lambda u: u.method)
def test_verl_gets_the_part_that_is_not_in_the_reward(use: Use) -> None:
    served = probes(use)
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=served))) as url:
        (expected,) = native(url, REPLIES[:1], messages=QUESTION)
        score = run(
            lambda: compute_score("poems", REPLIES[0], extra_info={"prompt": QUESTION}, url=url)
        )
    part = {"advantage": "advantage_penalty", "screen": "screened"}[use.method]
    assert score.keys() == {"score", "base_reward", "penalty", "probe/sycophancy", part}
    assert score["score"] == pytest.approx(expected.reward, abs=1e-5)
    assert score[part] == pytest.approx(float(getattr(expected, part)), abs=1e-5)
    assert abs(score[part]) > 1e-3
    assert all(type(value) is float for value in score.values())
