"""`python -m bench --quick` as a user runs it, and the pieces of the curves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.__main__ import bench
from bench.arms.bare import Bare, spread_probes
from bench.arms.tiny import save_tiny
from bench.goals import Record
from bench.machine import distinct_tokens, flops_per_token
from bench.options import BenchOptions
from bench.report import agreement
from bench.scaling import figure, in_turns, of_candidates, of_context, of_probes
from candor.models.load import load_reward_model
from tests.paths import ROOT

LARGEST_MEAN_GAP = {"float32": 1e-3, "bfloat16": 4 * 2**-8}
"""Largest mean difference of two arms' rewards, in standard deviations of the rewards, by dtype.

bfloat16 has 8 significant bits, so rounding to bfloat16 moves a number by up to 2**-8 of its size.
The padded loop rounds the reward itself, and each of the two arms rounds the hidden states from
which it reads the reward: about three roundings. The rewards here are about as large as their
standard deviation, so the bound is that of four roundings. A single reward that is wrong by one
standard deviation moves the mean of 16 by 1/16, four times the bound.
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_a_quick_run_measures_three_arms_that_agree_and_ends_with_one_json_object(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--workloads=groups", f"--out={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    last = orjson.loads(done.stdout.splitlines()[-1])
    goals = {goal["goal"]: goal for goal in last["goals"]}
    assert goals["groups: Candor / padded loop"]["value"] > 0
    assert goals["unique, single requests: Candor / vLLM tuned"]["met"] is None
    result = orjson.loads(Path(last["result"]).read_bytes())
    assert {name: arm["missing"] for name, arm in result["arms"].items()} == {
        "packed": "",
        "padded": "",
        "bare": "",
    }
    assert [(r["cell"], r["arm"], r["errors"]) for r in result["records"]] == [
        ("groups/single", "packed", {}),
        ("groups/single", "padded", {}),
        ("groups/single", "bare", {}),
        ("groups/batch", "packed", {}),
        ("groups/batch", "padded", {}),
        ("groups/batch", "bare", {}),
    ]
    for one in result["records"]:
        if one["arm"] == "padded":
            assert one["num_computed_tokens"] is None
        else:  # a context is computed about once, and sent 16 times
            of_distinct = one["num_computed_tokens"] / one["num_distinct_tokens"]
            assert 0.9 < of_distinct < 0.5 * one["num_tokens"] / one["num_distinct_tokens"]
    bound = LARGEST_MEAN_GAP[result["dtype"]]
    for pair in result["agreement"]:
        assert pair["same_num_tokens"]
        assert pair["mean_gap"] < bound
    assert all(pair["mean_gap"] > bound for pair in agreement(two_exchanged(result["records"])))
    assert all(arm["memory"] for arm in result["arms"].values())
    assert (tmp_path / "figure.svg").read_text().startswith("<svg")
    lines = (tmp_path / "workloads.jsonl").read_bytes().splitlines()
    sent = [orjson.loads(line) for line in lines]
    assert {one["workload"]: len(one["texts"]) for one in sent} == {
        "groups/single/0": 16,
        "groups/batch/0": 16,
    }


def two_exchanged(records: list[Record]) -> list[Record]:
    """The records with two rewards exchanged in every arm but the first."""
    return [
        record
        if record["arm"] == "packed"
        else {**record, "rewards": [*record["rewards"][1::-1], *record["rewards"][2:]]}
        for record in records
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"items": 20}, "multiple of 16"),
        ({"workloads": "none"}, "--workloads none: use"),
        ({"model": "/nowhere"}, "--model /nowhere: no such folder"),
        ({"arms": "fastest"}, "--arms fastest: use packed"),
    ],
)
def test_a_flag_that_cannot_be_right_is_one_line(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        bench(options=BenchOptions(**({"model": "tests"} | flags)))


@pytest.fixture
def bare(tiny: str) -> Iterator[Bare]:
    with closing(Bare(load_reward_model(tiny, dtype="float32"), 0)) as one:
        yield one


def test_curves_of_the_engine_and_their_figure(tiny: str, bare: Bare) -> None:
    with closing(Bare(load_reward_model(tiny, dtype="float32"), 2)) as probed:
        curves = {
            "candidates": in_turns((1, 4), 2, of_candidates(bare)),
            "context": in_turns((64, 128), 1, of_context(bare)),
            "probes": in_turns((0, 2), 1, of_probes({0: bare, 2: probed})),
            "depth": {"scores_per_s": {1: [2.0], 2: [3.0]}},
        }
    # One context of 256 and N responses of 64: the context is computed once.
    assert curves["candidates"]["computed_tokens"] == {1: [320, 320], 4: [512, 512]}
    assert all(value > 0 for value in curves["context"]["seconds"][128])
    assert list(curves["probes"]["seconds"]) == [0, 2]
    assert figure(curves).startswith("<svg")


def test_the_limit_counts_linears_and_distinct_tokens(tiny: str) -> None:
    attention = 64 * 64 + 2 * 64 * 32 + 64 * 64  # q, k and v, o: 4 heads, 2 of keys, of 16
    assert flops_per_token(tiny) == 2 * 2 * (attention + 3 * 64 * 128)
    context = list(range(100))
    assert distinct_tokens([[*context, 1000], [*context, 1001]]) == 102
    assert distinct_tokens([context, [*context]]) == 100


def test_rewards_and_time_of_the_bare_engine(bare: Bare) -> None:
    one, two, again = bare.score([("apple\n", "river"), ("apple\n", "road"), ("apple\n", "river")])[
        "rewards"
    ]
    assert one == again != two
    assert bare.score([("apple\n", "river")])["seconds"] > 0


def test_probes_are_spread_over_the_layers() -> None:
    assert [probe.layer for probe in spread_probes(30, 8, 8)] == [4, 8, 11, 15, 19, 22, 26, 30]
