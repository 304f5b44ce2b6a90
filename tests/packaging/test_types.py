"""mypy --strict in a user's project sees the installed client's types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.environments import Environment, clean_environ

RIGHT = """
from candor.client import RewardClient


def rewards(url: str) -> list[float]:
    with RewardClient(url) as candor:
        reply = candor.rewards([{"prompt": "p", "templated": True, "responses": ["a", "b"]}])
    return [response.reward for response in reply.results[0].responses]
"""
WRONG = RIGHT.replace("-> list[float]", "-> list[str]").replace(
    "RewardClient(url)", "RewardClient(7)"
)


@pytest.mark.slow
def test_a_right_file_passes_and_a_wrong_one_does_not(client: Environment, tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    options = ["--strict", "--config-file=", "--no-error-summary", "--cache-dir=cache"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--python-executable={client.python}", "."],
        cwd=tmp_path,
        env=clean_environ(),
        capture_output=True,
        text=True,
    )
    errors = checked.stdout.splitlines()
    assert [line.partition(":")[0] for line in errors] == ["wrong.py", "wrong.py"], checked
    assert "[arg-type]" in checked.stdout
    assert 'expected "str"' in checked.stdout
