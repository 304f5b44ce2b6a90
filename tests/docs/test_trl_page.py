"""The code of docs/trainers/trl.md and the data script of verl.md run: TRL trains a tiny policy on
a tiny model's rewards, for two steps."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.trainer_pages import FOLDER, block, fences, text_of
from tests.paths import ROOT
from tests.serve_process import ServeProcess, save_served
from tests.tiny import save_tiny, tiny_policy, tiny_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.trl]

PAGE = FOLDER / "trl.md"
SMALL = {
    "per_device_train_batch_size": 8,
    "num_generations": 8,
    "max_completion_length": 8,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "report_to": "none",
}
"""What the pages leave to TRL, for a run of seconds without a GPU."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_served(tmp_path_factory.mktemp("trl-page"))
    save_tiny(folder / "policy", tiny_policy(), tiny_tokenizer())
    return folder


def serving(folder: Path, *flags: str) -> Iterator[str]:
    server = ServeProcess(
        folder, f"--probe={folder / 'sycophancy'}", "--kappa=sycophancy=1.0", *flags
    )
    try:
        server.wait_ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    yield from serving(folder)


@pytest.fixture(scope="module")
def advantage_url(folder: Path) -> Iterator[str]:
    yield from serving(folder, "--method=advantage")


def run(folder: Path, *command: str, **variables: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ
        | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        | variables,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def trained(folder: Path, code: str, url: str) -> str:
    """What a page's script prints, run on a tiny policy for two steps."""
    small = ", ".join(f"{name}={value!r}" for name, value in SMALL.items())
    for words, others in {
        "http://reward-host:8000": url,
        "Qwen/Qwen3-0.6B": str(folder / "policy"),
        "max_steps=200": f"max_steps=2, {small}",
    }.items():
        assert words in code
        code = code.replace(words, others)
    script = folder / "train.py"
    script.write_text(code)
    return run(folder, sys.executable, "train.py")


def test_the_script_trains_on_the_penalised_reward(folder: Path, url: str) -> None:
    (code, _) = [one.text for one in fences(text_of(PAGE)) if one.language == "python"]
    told = trained(folder, code, url)
    for metric in re.findall(r"`(rewards/candor_reward/\w+|candor/[\w/]+)`", text_of(PAGE)):
        if metric not in ("candor/screened", "candor/advantage_penalty"):
            assert metric.replace("NAME", "sycophancy") in told, metric


def test_the_script_for_the_advantage_side_trains_on_both_parts(
    folder: Path, advantage_url: str
) -> None:
    (_, code) = [one.text for one in fences(text_of(PAGE)) if one.language == "python"]
    told = trained(folder, code, advantage_url)
    assert "candor/advantage_penalty" in told
    assert "rewards/candor_base_reward/mean" in told


def test_trls_command_trains(folder: Path, url: str) -> None:
    line = block(PAGE, "CANDOR_REWARD_URL=http://reward-host:8000 trl grpo")
    prompts = folder / "prompts"
    prompts.mkdir()
    rows = [{"prompt": [{"role": "user", "content": f"Is plan {n} good?"}]} for n in range(8)]
    (prompts / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = " ".join(f"--{name} {value}" for name, value in SMALL.items())
    line = line.replace("http://reward-host:8000", url).replace("Qwen/Qwen3-0.6B", "policy")
    line = line.replace("--max_steps 200", f"--max_steps 2 --logging_steps 1 {small}")
    grpo = shlex.join([sys.executable, "-m", "trl.scripts.grpo"])
    told = run(folder, "bash", "-c", line.replace("trl grpo", grpo))
    assert "rewards/reward/mean" in told
    assert "candor/penalty" in told


def test_verls_data_script_puts_the_prompt_where_the_adapter_reads_it(tmp_path: Path) -> None:
    from datasets import load_dataset

    line = block(FOLDER / "verl.md", "python examples/verl/data.py")
    messages = [{"role": "user", "content": "Is it good?"}]
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    words = shlex.split(line)
    assert words[0] == "python"
    run(tmp_path, sys.executable, str(ROOT / words[1]), *words[2:])
    parquet = str(tmp_path / words[3])
    (row,) = load_dataset("parquet", data_files=parquet, cache_dir=str(tmp_path / "c"))["train"]
    assert row["extra_info"]["prompt"] == messages
