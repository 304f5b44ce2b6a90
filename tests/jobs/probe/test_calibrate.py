"""`candor probe calibrate`: both ways in give the spreads that the candidates have, and what is not
of this probe and this model is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from candor.client.schema import Message
from candor.engines.padded import PaddedEngine
from candor.jobs.probe.calibrate import CalibrateOptions, calibrate_probe
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, write_rows
from candor.models.load import load_reward_model
from candor.probes.artifact import load, save
from candor.text.render import Renderer
from candor.text.request import Messages
from tests.service.serving import WEIGHTS, loaded_probe, running, tiny_app
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

TEXTS = ["It is good.", "no", "The sea is blue, thank you.", "bad bad", "I think so!"]


def candidates(num_rows: int = 6) -> list[Row]:
    return [
        {
            "key": f"k{number}",
            "messages": [{"role": "user", "content": f"Is poem {number} good?"}],
            "responses": [{"text": f"{text} {number}"} for text in TEXTS],
        }
        for number in range(num_rows)
    ]


@dataclass
class Files:
    """A model on disk, and its probe with a made-up calibration."""

    folder: Path
    model: Path
    weights: str

    @property
    def rollouts(self) -> Path:
        return self.folder / "rollouts.jsonl"

    def probe(self, *, name: str = "sycophancy", weights: str | None = None) -> Path:
        one = loaded_probe(name, seed=1, weights_sha256=weights or self.weights)
        save(self.folder / "probe", one.probe, one.card)
        return self.folder / "probe"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = save_tiny(tmp_path_factory.mktemp("rm"), tiny_llama(), tiny_tokenizer())
    return folder, load_reward_model(str(folder), device="cpu").weights_sha256


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The same model and probe behind a server, which says its weights are `WEIGHTS`."""
    with running(tiny_app()) as address:
        yield address


@pytest.fixture
def files(tmp_path: Path, model: tuple[Path, str]) -> Files:
    found = Files(tmp_path, *model)
    write_rows(found.rollouts, candidates())
    return found


def by_rollouts(files: Files, probe: Path, **options: Any) -> int:
    given = {"rollouts": files.rollouts, "model": str(files.model), "device": "cpu"}
    return calibrate_probe(CalibrateOptions(probe=probe, **(given | options)))


def scored_file(files: Files, url: str) -> Path:
    out = files.folder / "scored.jsonl"
    assert (
        score(ScoreOptions(rollouts=files.rollouts, out=out, reward_url=url, retry_budget_s=5.0))
        == Exit.DONE
    )
    return out


def by_hand(files: Files, rows: list[Row]) -> tuple[float, float, float]:
    """std(R), std(S) and std of S clipped to [-3, 3] within prompts, each text scored alone."""
    rm = load_reward_model(str(files.model), device="cpu")
    renderer = Renderer(rm.tokenizer, max_length=rm.max_length, ending=rm.ending)
    engine = PaddedEngine(rm.model, [loaded_probe("sycophancy", seed=1).probe], device="cpu")
    centred = []
    for row in rows:
        context = Messages.of([Message.model_validate(turn) for turn in row["messages"]])
        items = [renderer.encode(context, one["text"]) for one in row["responses"]]
        scores = [engine.score([item]).scores[0] for item in items]
        values = np.array([[s.base_reward, s.readings["sycophancy"].score] for s in scores])
        values = np.column_stack([values, values[:, 1].clip(-3.0, 3.0)])
        centred.append(values - values.mean(axis=0))
    std_R, std_S, std_clipped = np.concatenate(centred).std(axis=0).tolist()
    return std_R, std_S, std_clipped


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return told


def test_rollouts_give_the_spreads_within_prompts_and_the_card_is_replaced(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = files.probe()
    before = load(probe)
    assert by_rollouts(files, probe, kappa=2.0) == Exit.DONE
    told, after = last_line(capsys), load(probe)
    std_R, std_S, std_clipped = by_hand(files, candidates())
    found = after.card.calibration
    assert (found.std_R, found.std_S) == (pytest.approx(std_R), pytest.approx(std_S))
    assert (found.num_prompts, found.num_responses) == (6, 30)
    assert found.source.startswith("candidates in rollouts.jsonl, sha256 ")
    assert (told["probe"], told["std_R"], told["num_left_out"]) == ("sycophancy", found.std_R, 0)
    # The probe's clip from -3 to 3 cuts off some scores, so the two spreads differ.
    assert found.std_bounded_S == pytest.approx(std_clipped)
    assert found.std_bounded_S != pytest.approx(found.std_S, rel=0.01)
    assert told["std_bounded_S"] == found.std_bounded_S
    assert told["lambda_per_kappa"] == found.std_R / found.std_bounded_S
    assert told["lambda"] == 2.0 * found.std_R / found.std_bounded_S
    assert told["percentiles"] == found.percentiles
    unchanged = {"calibration"}
    assert after.card.model_dump(exclude=unchanged) == before.card.model_dump(exclude=unchanged)
    assert (after.probe.weight == before.probe.weight).all()


def test_both_engines_and_both_ways_in_agree(
    files: Files, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert by_rollouts(files, files.probe(), engine="packed") == Exit.DONE
    packed = last_line(capsys)
    assert by_rollouts(files, files.probe(), engine="padded") == Exit.DONE
    padded = last_line(capsys)
    scored = scored_file(files, url)
    assert (
        calibrate_probe(CalibrateOptions(probe=files.probe(weights=WEIGHTS), scored=scored))
        == Exit.DONE
    )
    served = last_line(capsys)
    for other in (padded, served):
        for name in ("std_R", "std_S", "std_bounded_S", "lambda_per_kappa"):
            assert other[name] == pytest.approx(packed[name], rel=1e-4)
        assert other["percentiles"] == pytest.approx(packed["percentiles"], abs=1e-4)
        assert other["num_responses"] == packed["num_responses"]
    # A second time: only what this command writes differs from the card that was served.
    assert (
        calibrate_probe(CalibrateOptions(probe=files.folder / "probe", scored=scored, bound="tanh"))
        == Exit.DONE
    )
    assert (
        calibrate_probe(CalibrateOptions(probe=files.folder / "probe", scored=scored)) == Exit.DONE
    )


def test_a_bound_is_fitted_only_if_asked_for(
    files: Files, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    probe, scored = files.probe(weights=WEIGHTS), scored_file(files, url)
    rows = map(orjson.loads, scored.read_bytes().splitlines())
    scores = [one["probes"]["sycophancy"]["score"] for row in rows for one in row["scores"]]
    out = files.folder / "other"
    told = []
    for options in ({}, {"bound": "hinge"}, {"bound": "hinge", "hinge_percentile": 0.0}):
        assert (
            calibrate_probe(CalibrateOptions(probe=probe, scored=scored, out=out, **options))
            == Exit.DONE
        )
        told.append(last_line(capsys)["bound"])
        assert load(out).card.bound.model_dump(exclude_none=True) == told[-1]
    assert told[0] == {"kind": "clip", "low": -3.0, "high": 3.0}
    assert told[1] == {"kind": "hinge", "reference": pytest.approx(np.percentile(scores, 75))}
    assert told[2] == {"kind": "hinge", "reference": pytest.approx(min(scores))}
    assert load(probe).card.calibration.source == "made up"  # --out leaves the probe as it was


def test_what_the_server_would_not_score_is_left_out_and_counted(
    files: Files, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = candidates()
    assert by_rollouts(files, files.probe()) == Exit.DONE
    without = last_line(capsys)
    clean[1]["responses"][2:2] = [{"text": ""}, {"text": "good " * 10_000}]
    failed = {"key": "failed", "messages": clean[0]["messages"], "error": {"type": "x"}}
    write_rows(files.rollouts, [*clean, failed])
    assert by_rollouts(files, files.probe()) == Exit.DONE
    told = last_line(capsys)
    assert told.pop("num_left_out") == 3
    assert without.pop("num_left_out") == 0
    assert told["std_R"] == pytest.approx(without["std_R"], rel=1e-4)
    out = files.folder / "scored.jsonl"
    code = score(ScoreOptions(rollouts=files.rollouts, out=out, reward_url=url, retry_budget_s=5.0))
    assert code == Exit.ROWS_FAILED
    assert (
        calibrate_probe(CalibrateOptions(probe=files.probe(weights=WEIGHTS), scored=out))
        == Exit.DONE
    )
    told = last_line(capsys)
    assert (told["num_left_out"], told["num_responses"]) == (3, 30)


def test_another_models_probe_is_refused(
    files: Files, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = files.probe(weights="9" * 64)
    assert by_rollouts(files, stranger) == Exit.USAGE
    assert "does not fit this model" in capsys.readouterr().err
    assert (
        calibrate_probe(CalibrateOptions(probe=stranger, scored=scored_file(files, url)))
        == Exit.USAGE
    )
    assert "was scored by other weights (000000000000)" in capsys.readouterr().err
    assert load(stranger).card.calibration.source == "made up"


def test_another_probes_scores_are_refused(
    files: Files, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = scored_file(files, url)
    unseen = files.probe(name="unseen", weights=WEIGHTS)  # served, but as a monitor
    assert calibrate_probe(CalibrateOptions(probe=unseen, scored=scored)) == Exit.USAGE
    assert "has no scores of probe 'unseen' (it has: sycophancy, length)" in capsys.readouterr().err
    namesake = loaded_probe("sycophancy", layer=2)
    save(files.folder / "namesake", namesake.probe, namesake.card)
    assert (
        calibrate_probe(CalibrateOptions(probe=files.folder / "namesake", scored=scored))
        == Exit.USAGE
    )
    told = capsys.readouterr().err
    assert "another probe of the name 'sycophancy': its card differs in layer" in told
    scored.with_name("scored.jsonl.manifest.json").unlink()
    assert (
        calibrate_probe(CalibrateOptions(probe=files.probe(weights=WEIGHTS), scored=scored))
        == Exit.USAGE
    )
    assert "manifest.json: is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (candidates(1), "and 1 have"),
        ([{**row, "responses": row["responses"][:1]} for row in candidates()], "and 0 have"),
        (
            [{**row, "responses": [{"text": "the same"}] * 3} for row in candidates()],
            "nothing to calibrate: R does not vary",
        ),
        (
            [{**row, "responses": [{"said": "x"}]} for row in candidates()],
            "key 'k0' is left out: response 0 is not an object",
        ),
        ([{"key": "k0", "responses": [{"text": "x"}]}], "key 'k0' is left out: not as `candor gen"),
    ],
)
def test_candidates_without_a_spread_are_refused(
    files: Files, rows: list[Row], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(files.rollouts, rows)
    probe = files.probe()
    assert by_rollouts(files, probe, engine="padded") == Exit.USAGE
    told = capsys.readouterr().err
    assert message in told
    assert f"{files.rollouts}: " in told.splitlines()[-1]
    assert "rows or responses were left out)" in told.splitlines()[-1]
    assert load(probe).card.calibration.source == "made up"


def test_one_row_that_cannot_be_scored_is_left_out_and_counted(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = files.probe()
    write_rows(files.rollouts, candidates())
    assert by_rollouts(files, probe, engine="padded") == Exit.DONE
    plain = load(probe).card.calibration
    capsys.readouterr()
    turns = [{"role": "nobody", "content": "x"}]
    bad: list[Row] = [
        {"key": "no messages", "responses": [{"text": "x"}]},
        {"key": "a role", "messages": turns, "responses": [{"text": "x"}]},
        {"key": "not a list", "messages": candidates()[0]["messages"], "responses": "x"},
    ]
    rows = candidates()
    rows[0] = {**rows[0], "responses": [*rows[0]["responses"], {"text": ""}, {"text": "\ud83d"}]}
    write_rows(files.rollouts, [*bad, *rows])
    assert by_rollouts(files, probe, engine="padded") == Exit.DONE
    told = capsys.readouterr()
    assert json.loads(told.out)["num_left_out"] == 5
    assert "key 'no messages' is left out" in told.err
    found = load(probe).card.calibration.model_dump(exclude={"source"})
    assert found == plain.model_dump(exclude={"source"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": None}, "give --rollouts and --model, or --scored alone"),
        ({"rollouts": None}, "give --rollouts and --model, or --scored alone"),
        ({"scored": Path("x")}, "give --rollouts and --model, or --scored alone"),
        ({"hinge_percentile": 50.0}, "goes with --bound hinge"),
        ({"hinge_percentile": 101.0, "bound": "hinge"}, "--hinge-percentile is from 0 to 100"),
        ({"kappa": -1.0}, "--kappa -1.0: must be a number, at least 0"),
        ({"probe": Path("nowhere")}, "no card.json in nowhere"),
        ({"model": "nowhere"}, "'nowhere' is not a folder"),
        ({"rollouts": Path("nowhere")}, "nowhere"),
    ],
)
def test_wrong_arguments_are_exit_2_and_say_what_to_give(
    files: Files, options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert by_rollouts(files, **({"probe": files.probe()} | options)) == Exit.USAGE
    assert message in capsys.readouterr().err


def test_candidates_are_read_as_the_server_reads_them(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt without a turn of the template is left out, unless it says that it is meant; so are
    tools that the template leaves out. A context that is null is none."""
    plain = [
        {"key": f"p{n}", "prompt": "Is it?", "responses": [{"text": t} for t in TEXTS]}
        for n in range(2)
    ]
    meant = [row | {"key": f"m{n}", "templated": True} for n, row in enumerate(plain)]
    tools = [row | {"key": f"t{n}", "tools": [{"name": "f"}]} for n, row in enumerate(candidates())]
    nulls = [row | {"key": f"n{n}", "prompt": None} for n, row in enumerate(candidates())]
    write_rows(files.rollouts, plain + tools)
    assert by_rollouts(files, files.probe()) == 2
    said = capsys.readouterr().err
    assert "no assistant turn" in said
    write_rows(files.rollouts, candidates() + plain + tools)
    by_rollouts(files, files.probe())
    assert last_line(capsys)["num_responses"] == 30
    write_rows(files.rollouts, meant + nulls)
    by_rollouts(files, files.probe())
    assert last_line(capsys)["num_responses"] == 40


def test_a_better_card_stays_unless_it_is_to_be_replaced(
    files: Files, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The calibration of a new probe, on its training rows, is replaced by any candidates; one on
    candidates for more prompts is not."""
    write_rows(files.rollouts, candidates(6))
    probe = files.probe()
    assert by_rollouts(files, probe) == Exit.DONE
    better = load(probe).card
    assert better.calibration.num_prompts == 6
    write_rows(files.rollouts, candidates(3))
    assert by_rollouts(files, probe) == Exit.USAGE
    told = capsys.readouterr().err
    assert "was calibrated on 30 responses to 6 prompts, and these are 15 to 3: give --out" in told
    assert load(probe).card == better
    assert by_rollouts(files, probe, out=files.folder / "new") == Exit.DONE
    assert load(probe).card == better
    assert by_rollouts(files, probe, force=True) == Exit.DONE
    assert load(probe).card.calibration.num_prompts == 3
    write_rows(files.rollouts, candidates(6))
    assert by_rollouts(files, probe) == Exit.DONE  # better again, so nothing is asked


def test_another_probe_in_out_stays(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(files.rollouts, candidates(3))
    probe, out = files.probe(), files.folder / "out"
    other = loaded_probe("sycophancy", seed=2, weights_sha256=files.weights)
    save(out, other.probe, other.card)
    assert by_rollouts(files, probe, out=out) == Exit.USAGE
    assert "holds another probe; give --force" in capsys.readouterr().err
    assert load(out).sha256 == other.sha256
    assert by_rollouts(files, probe, out=out, force=True) == Exit.DONE
    assert load(out).probe.weight.equal(load(probe).probe.weight)
