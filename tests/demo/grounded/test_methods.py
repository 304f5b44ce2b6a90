"""What best-of-16 chooses by each way to use a probe, against choosing by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candor.jobs.grounded.judged import JudgedPrompt, judged_prompts
from candor.methods import SCREEN_KAPPA
from candor.probes.card import BoundSpec
from demo.grounded import methods
from demo.servers import KAPPA, PROBE
from tests.demo.grounded.made import M, flattered, scored
from tests.service.serving import loaded_probe

THRESHOLD = 1.5
CARD = loaded_probe(PROBE).card.model_copy(
    update={"bound": BoundSpec(kind="hinge", reference=THRESHOLD), "metrics": {}}
)
NULLS = {"random-direction": ["random-direction-0", "random-direction-1"]}


def prompts(rows: list[Any]) -> list[JudgedPrompt]:
    return judged_prompts(Path("scored.jsonl"), rows)


def measured(rows: list[Any], projected: dict[str, Any]) -> dict[str, methods.MethodArms]:
    return methods.measure_methods(prompts(rows), PROBE, CARD, projected, NULLS)[1]


def without(rows: list[Any], flattery: float) -> dict[str, dict[str, list[float]]]:
    """R of a model from which directions are taken out: the probe's takes `flattery` from replies
    that give the user's value (every fourth), the null probes' take nothing."""
    return {
        row["key"]: {
            name: [
                score["base_reward"] - loss * (place % 4 == 0)
                for place, score in enumerate(row["scores"])
            ]
            for name, loss in (
                (PROBE, flattery),
                *((one, 0.0) for one in NULLS["random-direction"]),
            )
        }
        for row in rows
    }


def test_the_best_of_all_is_the_best_by_the_methods_own_arithmetic() -> None:
    # Noisy enough that every method is right in some prompts and wrong in others.
    rows = scored(
        lambda v, rng: (rng.normal() + 2 * (v == "user"), 2 * rng.random() + 0.5 * (v == "user"))
    )
    found = measured(rows, without(rows, 1.0))
    wrong = [row for row in rows if row["meta"]["stance"] == "wrong"]
    agrees: dict[str, list[float]] = {name: [] for name in found}
    for row in wrong:
        r = np.array([score["base_reward"] for score in row["scores"]])
        s = np.array([score["probes"][PROBE]["bounded"] for score in row["scores"]])
        by_hand = {
            "subtract": r - s,
            "advantage": (r - r.mean()) / r.std() - KAPPA * (s - s.mean()) / s.std(),
            "screen": np.where(s > THRESHOLD, r - SCREEN_KAPPA * CARD.calibration.std_R, r),
            "project": r - 1.0 * (np.arange(M) % 4 == 0),
        }
        for name, values in by_hand.items():
            agrees[name].append(float(int(values.argmax()) % 4 == 0))
    for name, hits in agrees.items():
        assert 0 < sum(hits) < len(hits)
        assert found[name].real[methods.TARGET][:, 0].tolist() == pytest.approx(hits)


def test_a_method_reduces_beside_its_null_arms_and_a_penalty_that_guesses_does_not() -> None:
    rows = scored(flattered)
    assert {one.verdict.word for one in measured(rows, without(rows, 2.0)).values()} == {"reduces"}
    guess = scored(lambda v, rng: (2 * (v == "user") + rng.normal(), 3 * float(rng.random())))
    words = {name: one.verdict.word for name, one in measured(guess, without(guess, 0.0)).items()}
    assert set(words) == {"subtract", "advantage", "screen", "project"}
    assert set(words.values()) == {"not shown to reduce"}


def test_without_projected_answers_that_method_is_left_out() -> None:
    found = measured(scored(flattered), {})
    assert set(found) == {"subtract", "advantage", "screen"}


def test_strength_zero_is_the_choice_by_r_and_the_served_strength_the_tables() -> None:
    rows = scored(flattered)
    by_r, found = methods.measure_methods(prompts(rows), PROBE, CARD, {}, NULLS)
    for arms in found.values():
        for curve in arms.curves.values():
            assert np.array_equal(curve[0][methods.TARGET], by_r[methods.TARGET])
        served = arms.curves["real"][methods.STRENGTHS.index(1.0)]
        assert np.array_equal(served[methods.TARGET], arms.real[methods.TARGET])


def test_the_table_and_the_figure_name_every_method(tmp_path: Path) -> None:
    rows = scored(flattered)
    by_r, found = methods.measure_methods(prompts(rows), PROBE, CARD, without(rows, 2.0), NULLS)
    table = methods.markdown(by_r, found)
    methods.write_figure(tmp_path / "methods.svg", by_r, found)
    drawn = (tmp_path / "methods.svg").read_text()
    for name in ("subtract", "advantage", "screen", "project"):
        assert f"| `{name}` |" in table
        assert f">{name}<" in drawn
    assert table.count("| null: ") == 4
