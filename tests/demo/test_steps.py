"""The steps that the demos share: what is asked of the generator, when a run has failed, and what
its page says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from candor.jobs.running.files import read_rows, write_rows
from demo.servers import KAPPA
from demo.steps import Draws, all_scored, draw_responses, is_there, provenance
from tests.jobs.stub import running_stub

ROW = {"key": "a", "messages": [{"role": "user", "content": "Is it good?"}]}
DRAWS = Draws(n=3, temperature=0.8, max_tokens=5, stop=(".",))


def test_responses_are_drawn_as_the_sampling_says(tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "rollouts.jsonl"
    write_rows(prompts, [ROW])
    with running_stub() as stub:
        draw_responses(stub.url, "tiny", prompts, out, DRAWS, seed=7)
        (body,) = stub.bodies
    asked = {name: body[name] for name in ("n", "temperature", "max_tokens", "stop")}
    assert asked == {"n": 3, "temperature": 0.8, "max_tokens": 5, "stop": ["."]}
    (row,) = read_rows(out)
    assert len(row["responses"]) == 3


def test_a_failed_prompt_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert all_scored([ROW])
    assert capsys.readouterr().err == ""
    assert not all_scored([ROW, {"key": "b", "error": {"type": "x", "message": "y"}}])
    assert "1 prompts failed, the first is b" in capsys.readouterr().err


def test_the_page_says_what_was_asked_of_which_model() -> None:
    answer = {
        "model": {"revision": "abc", "engine": "packed"},
        "results": [{"responses": [{"probes": {"syc": {"lambda": 0.51239}}}]}],
    }
    assert provenance(answer, "syc", 3, Path("out/scored.jsonl"), poems="dev split") == {
        "reward model weights": "abc",
        "engine": "packed",
        "kappa": str(KAPPA),
        "lambda": "0.5124",
        "seed": "3",
        "poems": "dev split",
        "rows": "out/scored.jsonl and its manifest",
    }


def test_a_fitted_probe_is_found_by_its_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not is_there(tmp_path)
    assert capsys.readouterr().err == ""
    (tmp_path / "card.json").touch()
    assert is_there(tmp_path)
    assert "is there already" in capsys.readouterr().err
