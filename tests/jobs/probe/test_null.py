"""`candor probe null`: probes that a server takes, with the real one's strength and nothing of its
knowledge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from candor.client.schema import Message
from candor.engines.padded import PaddedEngine
from candor.jobs.probe.calibrate import CalibrateOptions, calibrate_probe
from candor.jobs.probe.null import NullOptions, null_probes, within_kinds
from candor.jobs.probe.train import train
from candor.jobs.probe.training.options import TrainOptions
from candor.jobs.rollouts.bon import BonOptions, bon
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, read_rows, write_rows
from candor.models.load import load_reward_model
from candor.probes.artifact import load
from candor.probes.fitting.data import load_rows
from candor.probes.fitting.evaluate import auroc
from candor.text.request import Messages
from tests.jobs.probe.planted import labelled
from tests.serve_process import ServeProcess
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

COUNT = 3
TEXTS = ("thank the sea", "you the sea", "the poem is good", "thank poem answer", "blue you about")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a probe for "thank" that is calibrated on candidates, and both kinds of nulls."""
    folder = tmp_path_factory.mktemp("made")
    model = str(save_tiny(folder / "model", tiny_llama(), tiny_tokenizer()))
    data, rollouts = labelled(folder / "rows.jsonl"), folder / "rollouts.jsonl"
    write_rows(rollouts, candidates())
    options = TrainOptions(
        data=[data], model=model, out=folder / "probe", name="thanks", trait="t", device="cpu",
        seed=5, hold_out_kind=["the sea"],
    )  # fmt: skip
    assert train(options) == 0
    calibrated = CalibrateOptions(
        probe=folder / "probe", rollouts=rollouts, model=model, bound="hinge",
        hinge_percentile=60.0, device="cpu",
    )  # fmt: skip
    assert calibrate_probe(calibrated) == 0
    assert null(folder, kind="random-direction") == 0
    assert null(folder, kind="shuffled-labels", data=[data]) == 0
    return folder


def candidates(num_rows: int = 8) -> list[Row]:
    return [
        {
            "key": f"k{number}",
            "messages": [{"role": "user", "content": f"Is poem {number} good?"}],
            "responses": [{"text": f"{text} {number}"} for text in TEXTS],
        }
        for number in range(num_rows)
    ]


def null(folder: Path, **options: Any) -> int:
    given = {
        "probe": folder / "probe",
        "out": folder / "nulls",
        "count": COUNT,
        "rollouts": folder / "rollouts.jsonl",
        "model": str(folder / "model"),
        "device": "cpu",
    }
    return null_probes(NullOptions(**(given | options)))


def all_nulls(folder: Path) -> list[Path]:
    found = sorted((folder / "nulls").iterdir())
    assert len(found) == 2 * COUNT
    return found


def test_each_is_a_whole_probe_at_the_real_ones_place(made: Path) -> None:
    real = load(made / "probe")
    weights = [real.probe.weight]
    for place in all_nulls(made):
        one = load(place)
        assert one.card.name == place.name == one.probe.name
        assert (one.card.layer, one.card.pooling) == (real.card.layer, real.card.pooling)
        assert one.card.model == real.card.model
        assert one.card.bound.kind == "hinge"
        kind = place.name.rpartition("-")[0]
        assert one.card.metrics == {"null": {"kind": kind, "of": "thanks", "seed": 0}}
        assert one.card.trait.startswith("Nothing: a null probe")
        fitted_on = 0 if kind == "random-direction" else real.card.data.num_rows
        assert one.card.data.num_rows == fitted_on
        weights.append(one.probe.weight)
    unit = np.array([(w / w.norm()).numpy() for w in weights])
    cosines = np.abs(unit @ unit.T)[np.triu_indices(len(unit), 1)]
    assert cosines.max() < 0.95  # all point elsewhere; in 32 dimensions not far


def scores_of(folder: Path, probe: Path) -> np.ndarray[Any, Any]:
    """S of every candidate by plain transformers: mean token logit of the response."""
    one, rm = load(probe), load_reward_model(str(folder / "model"), device="cpu")
    engine, renderer = PaddedEngine(rm.model, [one.probe], device="cpu"), rm.renderer()
    found = []
    for row in candidates():
        context = Messages.of([Message.model_validate(turn) for turn in row["messages"]])
        items = [renderer.encode(context, response["text"]) for response in row["responses"]]
        found.append([s.readings[one.card.name].score for s in engine.score(items).scores])
    return np.array(found)


def test_bound_and_calibration_are_its_own_and_as_strong(made: Path) -> None:
    real = scores_of(made, made / "probe")
    reference = load(made / "probe").card.bound.reference
    assert reference is not None
    free = np.mean(real <= reference)
    assert free == pytest.approx(0.6, abs=0.05)
    for place in all_nulls(made):
        scores, card = scores_of(made, place), load(place).card
        std = float((scores - scores.mean(axis=1, keepdims=True)).std())
        assert card.calibration.std_S == pytest.approx(std, rel=1e-3)
        assert card.calibration.num_responses == scores.size
        assert card.bound.reference is not None
        assert np.mean(scores <= card.bound.reference + 1e-6) == pytest.approx(free, abs=0.03)
        if place.name.startswith("random-direction"):
            assert scores.mean() == pytest.approx(real.mean(), rel=1e-3, abs=1e-3)
            assert scores.std() == pytest.approx(real.std(), rel=1e-3)


def test_shuffled_labels_find_nothing_and_the_real_ones_do(made: Path) -> None:
    says_thank = np.array([["thank" in text for text in TEXTS]] * 8).ravel().astype(int)
    assert auroc(scores_of(made, made / "probe").ravel(), says_thank) > 0.95
    nulls = [auroc(scores_of(made, place).ravel(), says_thank) for place in all_nulls(made)]
    assert np.mean(nulls) == pytest.approx(0.5, abs=0.25)  # of 6: each may lean either way


def test_labels_are_permuted_within_each_kind() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([1] * 10 + [0] * 10 + [1] * 2 + [0] * 18)
    kinds = ["even"] * 20 + ["rare"] * 20
    shuffled = [within_kinds(labels, kinds, rng) for _ in range(200)]
    for one in shuffled:
        assert (one[:20].sum(), one[20:].sum()) == (10, 2)
    np.testing.assert_allclose(np.mean(shuffled, axis=0)[:20], 0.5, atol=0.15)
    np.testing.assert_allclose(np.mean(shuffled, axis=0)[20:], 0.1, atol=0.1)
    assert labels.tolist() == [1] * 10 + [0] * 10 + [1] * 2 + [0] * 18


def test_the_same_seed_gives_the_same_probes_and_another_does_not(
    made: Path, tmp_path: Path
) -> None:
    for kind in ("random-direction", "shuffled-labels"):
        data = [made / "rows.jsonl"] if kind == "shuffled-labels" else None
        for seed in (0, 1):
            out = tmp_path / str(seed)
            assert null(made, out=out, kind=kind, data=data, count=1, seed=seed) == 0
        first, again, other = (
            load(folder / f"{kind}-0").probe.weight
            for folder in (made / "nulls", tmp_path / "0", tmp_path / "1")
        )
        torch.testing.assert_close(first, again, rtol=1e-4, atol=1e-5)
        assert (first - other).norm() > 0.1 * first.norm()


def test_a_server_takes_them_and_bon_makes_each_kind_an_arm(made: Path, tmp_path: Path) -> None:
    folders = [made / "probe", *all_nulls(made)]
    probes = [word for folder in folders for word in ("--probe", str(folder))]
    scored = tmp_path / "scored.jsonl"
    server = ServeProcess(made, "--device=cpu", *probes, "--kappa=thanks=2")
    try:
        server.wait_ready()
        options = ScoreOptions(rollouts=made / "rollouts.jsonl", out=scored, reward_url=server.url)
        assert score(options) == Exit.DONE
    finally:
        server.stop()
    first = read_rows(scored)[0]["scores"][0]
    assert set(first["probes"]) == {folder.name for folder in folders[1:]} | {"thanks"}
    assert {r["lambda"] for n, r in first["probes"].items() if n != "thanks"} == {0.0}
    out = tmp_path / "bon.json"
    assert bon(BonOptions(scored=scored, out=out, n="1,4", target="contains:thank")) == Exit.DONE
    entry = json.loads(out.read_bytes())["reduction"]["strengths"][0]
    seeds = {one["arm"]: one["num_seeds"] for one in entry["verdict"]["arms"]}
    assert seeds["random-direction"] == seeds["shuffled-labels"] == COUNT
    real = entry["arms"]["penalty"]["target"]["mean"]
    for arm in ("no penalty", "permuted penalty", "random-direction"):
        assert real < entry["arms"][arm]["target"]["mean"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "random-direction", "count": 0}, "--count 0: must be at least 1"),
        ({"kind": "shuffled-labels"}, "shuffled-labels needs the --data"),
        ({"kind": "random-direction", "data": [Path("x")]}, "random-direction reads no labels"),
        ({"kind": "random-direction", "rollouts": Path("absent")}, "absent: No such file"),
        ({"kind": "random-direction", "probe": Path("absent")}, "no card.json in absent"),
    ],
)
def test_wrong_options_are_refused(
    made: Path, options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert null(made, **options) == Exit.USAGE
    assert message in capsys.readouterr().err


def test_other_rows_than_the_probes_own_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = labelled(tmp_path / "other.jsonl", groups=31)
    assert len(load_rows(rows)) == 31 * 8
    assert null(made, kind="shuffled-labels", data=[rows], out=tmp_path / "out") == Exit.USAGE
    assert "are not those that 'thanks' was fitted on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
