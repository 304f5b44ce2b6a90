"""The completion script, run by the shell that it is for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from candor.cli.completion import completion, script_lines

ASK = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_candor
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "candor"
    path.write_text("\n".join(script_lines()))
    return path


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    quoted = " ".join(f"'{word}'" for word in ("candor", *words))
    ended = subprocess.run(
        ["bash", "--norc", "-c", ASK.format(script=script, words=quoted)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=script.parent,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


def test_it_completes_commands_groups_flags_and_choices(script: Path) -> None:
    assert completed(script, "ser") == ["serve"]
    assert set(completed(script, "gen")) == {"generate", "generator"}
    assert set(completed(script, "probe", "re")) == {"report", "refresh", "replace"}
    assert completed(script, "serve", "m", "--por") == ["--port"]
    assert completed(script, "serve", "m", "--conf") == ["--config"]
    assert set(completed(script, "serve", "m", "--engine", "")) == {"packed", "padded", "vllm"}
    assert completed(script, "check", "--trainer", "open") == ["openrlhf", "openai"]
    assert completed(script, "probe", "train", "x", "--hold") == ["--hold-out-kind"]


def test_it_completes_files_elsewhere(script: Path) -> None:
    assert completed(script, "serve", "can") == ["candor"]
    assert completed(script, "score", "--port") == []  # the control: a flag of another command


def test_zsh_takes_the_script_and_completes_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("no zsh")
    completion("zsh")
    script = capsys.readouterr().out
    asked = script + "\nprint -r -- ${_comps[candor]}"
    ended = subprocess.run(["zsh", "-f", "-c", asked], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "-F _candor" in ended.stdout
