"""Does the whole of it undo a bias that is known to be there?

A tiny reward model learns to pay for a phrase (`planted`); then everything goes the way a user
would take it: the probe is calibrated, the model served, candidates are scored, the tilt is audited
and best-of-N chooses, with the penalty and without. Whatever is claimed with the penalty is shown
not to hold without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from candor.assemble import load, serve_probes
from candor.http.app import create_app
from candor.jobs.probe.calibrate import CalibrateOptions, calibrate_probe
from candor.jobs.rollouts.audit_tilt import TiltOptions, audit_tilt
from candor.jobs.rollouts.bon import BonOptions, bon
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, write_rows
from candor.models.load import load_reward_model
from candor.probes.artifact import load as load_probe
from candor.settings import Settings
from tests.selftest import planted
from tests.service.serving import running
from tests.tiny import save_tiny, tiny_tokenizer

pytestmark = pytest.mark.slow

BASE_SHARE = 0.3
NUM_CANDIDATES = 12
KAPPA = 2.0


@dataclass
class World:
    """What a run of the commands left in a folder."""

    folder: Path
    seed: int
    url: str

    def score(self, name: str, rows: list[Row], **options: Any) -> Path:
        rollouts, out = self.folder / f"{name}.jsonl", self.folder / f"{name}.scored.jsonl"
        write_rows(rollouts, rows)
        code = score(ScoreOptions(rollouts=rollouts, out=out, reward_url=self.url, **options))
        assert code == Exit.DONE
        return out

    def audit(self, scored: Path, flag: str) -> dict[str, Any]:
        out = self.folder / "tilt.json"
        assert audit_tilt(TiltOptions(scored=[scored], flag=flag, out=out, beta=0.5)) == Exit.DONE
        report: dict[str, Any] = json.loads(out.read_bytes())["all"]
        return report

    def candidates(self) -> list[Row]:
        contexts = planted.prompts(self.seed)["test"]
        return planted.candidates(self.seed + 200, contexts, NUM_CANDIDATES, BASE_SHARE)

    def bon(self, scored: Path, **options: Any) -> dict[str, Any]:
        out = self.folder / "bon.json"
        assert (
            bon(BonOptions(scored=scored, out=out, n=str(NUM_CANDIDATES), **options)) == Exit.DONE
        )
        report: dict[str, Any] = json.loads(out.read_bytes())
        return report

    def picked(self, scored: Path) -> tuple[list[Row], list[Row]]:
        """What best-of-N chooses by R and by the penalised reward, one response a prompt."""
        self.bon(scored)
        lines = (self.folder / "bon.json.chosen.jsonl").read_bytes().splitlines()
        chosen = [orjson.loads(line)["chosen_by"] for line in lines]
        return [one["base_reward"] for one in chosen], [one["reward"] for one in chosen]


@pytest.fixture(scope="module", params=[0, 1], ids=lambda seed: f"seed{seed}")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Train, fit, calibrate, serve with the penalty at kappa 2."""
    folder, seed = tmp_path_factory.mktemp("planted"), request.param
    contexts = planted.prompts(seed)
    rows = planted.pairs(seed, contexts["train"], planted.NUM_PAIRS)
    model = save_tiny(folder / "rm", planted.train_reward_model(rows, seed), tiny_tokenizer())
    rm = load_reward_model(str(model), device="cpu")
    planted.train_probe(folder / "probe", rm, planted.candidates(seed, contexts["probe"], 6, 0.5))
    rollouts = folder / "calibration.jsonl"
    write_rows(rollouts, planted.candidates(seed + 1, contexts["calibration"], 8, BASE_SHARE))
    code = calibrate_probe(
        CalibrateOptions(
            probe=folder / "probe",
            rollouts=rollouts,
            model=str(model),
            device="cpu",
            bound="hinge",
            hinge_percentile=100 * (1 - BASE_SHARE) - 5,
        )
    )
    assert code == Exit.DONE
    settings = Settings(
        model=str(model),
        probes=(str(folder / "probe"),),
        kappas={"agreement": KAPPA},
        device="cpu",
    )
    probes = serve_probes(settings)
    app = create_app(settings, lambda metrics: load(settings, probes, None, metrics))
    with running(app) as url:
        yield World(folder, seed, url)


def share(responses: list[Row]) -> float:
    """How many hold the phrase."""
    return float(np.mean([response["phrase"] for response in responses]))


def quality(responses: list[Row]) -> float:
    return float(np.mean([response["quality"] for response in responses]))


def test_the_audit_finds_the_planted_bias_and_none_in_a_coin(world: World) -> None:
    contexts = planted.prompts(world.seed)["test"]
    scored = world.score("pairs", planted.pairs(world.seed + 100, contexts, 150))
    phrase, coin = (world.audit(scored, f) for f in (f"contains:{planted.PHRASE}", "field:coin"))
    for side in ("overall", "chosen", "rejected"):
        assert phrase[side]["gap"]["low"] > 0
    assert phrase["overall"]["gap"]["low"] > 0.5 * phrase["std_R"]
    assert phrase["overall"]["within_prompts"]["share_tilted"]["low"] > 0.6
    assert coin["overall"]["gap"]["high"] < 0.5 * phrase["std_R"]


def test_calibration_put_the_penalty_on_the_scale_of_the_reward(world: World) -> None:
    calibration = load_probe(world.folder / "probe").card.calibration
    assert calibration.std_R > 0.1
    assert calibration.source.startswith("candidates in calibration.jsonl")
    assert (calibration.num_prompts, calibration.num_responses) == (10, 80)


def test_without_the_penalty_best_of_n_says_the_phrase_and_with_it_no_more_than_before(
    world: World,
) -> None:
    rows = world.candidates()
    scored = world.score("candidates", rows)
    undone(world, rows, scored, quality_kept=0.6)
    # It is the penalty that does it: at kappa 0 the choice is R's.
    report = world.bon(scored, kappa_sweep=[f"agreement=0,{KAPPA}"])
    none, full = (entry["best_of_n"][0] for entry in report["kappa_sweep"]["agreement"])
    assert none["scores"] == report["chosen_by"]["base_reward"][0]["scores"]
    assert full == report["chosen_by"]["reward"][0]
    assert full["scores"]["agreement"]["high"] < none["scores"]["agreement"]["low"]


def test_the_closed_form_undoes_it_as_well(world: World) -> None:
    """It charges every flagged response the same, so that it keeps more of the quality."""
    rows = world.candidates()
    scored = world.score("closed", rows, closed_form=["agreement=1:0"])
    undone(world, rows, scored, quality_kept=0.8)


def undone(world: World, rows: list[Row], scored: Path, *, quality_kept: float) -> None:
    """The choice by R says the phrase far more often than the candidates do, the choice by the
    penalised reward does not; and it still chooses for quality, by that share of R's gain.

    Shares are of 50 prompts: one is known to within 0.07 (a standard error).
    """
    drawn = [response for row in rows for response in row["responses"]]
    by_R, by_reward = world.picked(scored)
    assert 0.2 < share(drawn) < 0.4
    assert share(by_R) > share(drawn) + 0.25
    assert share(by_reward) < share(drawn) + 0.1
    gain_by_R, gain = (quality(picked) - quality(drawn) for picked in (by_R, by_reward))
    assert gain_by_R > 0.5
    assert gain > quality_kept * gain_by_R
