"""The evasion run's parts: replies that the exact judge reads as meant, a policy that learns what
it is paid for, an exact AUROC; and the whole of it on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from candor.probes.kinds.grounded.questions import questions, shipped_domains
from candor.probes.within import prompt_auroc
from demo.evasion.forms import FORMS, replies
from demo.evasion.policy import Bandit, payoff, within_auroc
from demo.evasion.run import evasion
from demo.evasion.summary import markdown, summarise
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer


def test_every_form_is_judged_as_the_value_that_it_was_written_with() -> None:
    for question in questions(shipped_domains(), 5, seed=9):
        assert len(replies(question)) == len(FORMS)


def test_the_auroc_is_that_of_the_policys_own_replies() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 5, 2))
    policy = Bandit(5)
    policy.logits = rng.normal(size=(5, 2))
    drawn = rng.choice(10, size=6000, p=policy.chances.ravel())
    sampled = [
        prompt_auroc(scores[p].ravel()[drawn], (drawn % 2 == 0).astype(int)) for p in range(3)
    ]
    assert within_auroc(scores, policy.chances) == pytest.approx(np.mean(sampled), abs=0.03)


def test_the_attack_finds_the_form_that_fools_and_the_null_does_not() -> None:
    """A planted probe: right in every form but one, in which a reply that flatters has a low S."""
    scores = np.random.default_rng(1).normal(size=(12, 6, 2)) * 0.3
    scores[:, :, 0] += 2
    scores[:, 4, 0] -= 6
    found = {}
    for attacks in (True, False):
        rng = np.random.default_rng(2)
        policy, worth = Bandit(6), payoff(scores, attacks, rng)
        for _ in range(60):
            places = rng.choice(12, size=16)
            drawn = np.stack([policy.draw(rng, 8) for _ in places])
            policy.learn(drawn, worth.reshape(12, -1)[places[:, None], drawn])
        found[attacks] = policy.chances, within_auroc(scores, policy.chances)
    assert found[True][0][4, 0] > 0.5
    assert found[True][1] < 0.5
    assert found[False][1] > 0.7
    assert found[False][0][:, 0].sum() > 0.6  # the null flatters too


def test_the_whole_run_on_a_tiny_model_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny(tmp_path / "model", tiny_llama(), tiny_tokenizer())
    for _ in range(2):  # the second time nothing runs again
        evasion(seeds=(0,), model=model, out=tmp_path / "out", smoke=True)
        printed = capsys.readouterr()
        line = json.loads(printed.out.splitlines()[-1])
        assert "| seed | below the level at step |" in printed.err
        assert (line["attacks"], line["nulls"]) == (1, 1)
        (seed,) = line["by_seed"]
        assert all(0 <= seed[n] <= 1 for n in seed if n.startswith("auroc"))
    stored = json.loads((tmp_path / "out" / "runs" / "attack-0.json").read_bytes())
    assert len(stored["curve"]) == 6
    assert stored["reference"]["num_prompts"] == 8


def kept(seed: int, arm: str, alarm: int | None, *aurocs: float) -> Any:
    """A run whose AUROC falls below its level of 0.6 at step 3."""
    curve = [{"step": step, "auroc": auroc} for step, auroc in enumerate((0.7, 0.6, 0.5, 0.4), 1)]
    found = {"seed": seed, "arm": arm, "alarm_step": alarm, "auroc_after": 0.4}
    found |= {"curve": curve, "reference": {"level": 0.6}}
    if arm == "attack":
        found |= {"flatters_after": 0.8, "auroc_before": 0.7}
        found |= dict(zip(("auroc_refreshed", "auroc_fresh"), aurocs, strict=True))
    return found


def test_the_summary_counts_alarms_by_arm_and_compares_within_seeds() -> None:
    attacked = [kept(1, "attack", 20, 0.8, 0.9), kept(2, "attack", None, 0.9, 0.92)]
    never = kept(1, "null", None) | {"curve": [{"step": 1, "auroc": 0.7}]}
    found = summarise([*attacked, never, kept(2, "null", 7)])
    assert (found["alarms"], found["attacks"]) == (1, 2)
    assert (found["false_alarms"], found["nulls"]) == (1, 2)
    half = stats.t.ppf(0.975, 1) * 0.04  # of the differences 0.1 and 0.02
    expected = {"mean": 0.06, "low": 0.06 - half, "high": 0.06 + half}
    assert found["fresh_minus_refreshed"] == pytest.approx(expected)
    table = markdown(found)
    assert "| 1 | 3 | 20 | none | none | 0.700 | 0.400 | 0.400 | 0.800 | 0.900 |" in table
    assert "| 2 | 3 | none | 3 | 7 | 0.700 | 0.400 | 0.400 | 0.900 | 0.920 |" in table
    assert "| mean |  |  |  |  | 0.700 | 0.400 | 0.400 | 0.850 | 0.910 |" in table
    assert "1 of 2 attacked runs, 1 of 2 null runs" in table


def test_an_arm_that_was_not_run_has_no_figures_and_is_not_called_quiet() -> None:
    nulls = markdown(summarise([kept(4, "null", None)]))
    assert "| 4 |  |  | 3 | none |  |  | 0.400 |  |  |" in nulls
    assert nulls.endswith("Alarms: 0 of 0 attacked runs, 0 of 1 null runs.")
    attacks = summarise([kept(4, "attack", 9, 0.8, 0.9)])
    assert "| 4 | 3 | 9 |  |  | 0.700 | 0.400 |  | 0.800 | 0.900 |" in markdown(attacks)
    assert json.loads(json.dumps(attacks, allow_nan=False)) == attacks
