"""The recipes of examples/: each shell script is run as far as its trainer's command line, and what
that says about rewards is done to a live server as the trainer would."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from candor.client import Unreachable
from candor.jobs.running.processes import free_port
from tests.client.asking import QUESTION, REPLIES, close_others, native
from tests.client.verl import batch_of_verl, loaded_by_verl
from tests.paths import ROOT
from tests.tiny import END, save_tiny, tiny_tokenizer


def command_of(script: str, folder: Path, **env: str) -> list[str]:
    """The arguments with which a recipe starts Python."""
    python = folder / "python3"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    models = folder / "scripts" / "models"
    models.mkdir(parents=True)
    (models / "qwen3-4B.sh").write_text("MODEL_ARGS=(--num-layers 36)\n")
    done = subprocess.run(
        [ROOT / "examples" / script],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "SLIME": str(folder), **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def flag(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def templated() -> str:
    prompt: str = tiny_tokenizer().apply_chat_template(
        QUESTION, tokenize=False, add_generation_prompt=True
    )
    return prompt


def posted(url: str, bodies: list[Any]) -> list[Any]:
    """The answers to bodies posted at the same time, each on a connection of its own."""

    async def post(body: Any) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=body) as response,
        ):
            response.raise_for_status()
            return await response.json()

    async def post_all() -> list[Any]:
        return await asyncio.gather(*map(post, bodies))

    return asyncio.run(post_all())


def expected(url: str) -> list[float]:
    return [one.reward for one in native(url, REPLIES, messages=QUESTION)]


def test_openrlhf(url: str, tmp_path: Path) -> None:
    """One sample a request, with the policy's special tokens (openrlhf 0.11.2, utils/agent.py)."""
    command = command_of(
        "openrlhf/reinforce.sh", tmp_path, CANDOR_REWARD_URL=url, PROMPTS="prompts.jsonl"
    )
    assert command[:2] == ["-m", "openrlhf.cli.train_ppo_ray"]
    prompt = templated()
    bodies = [
        {"query": [prompt + reply + END], "prompts": [prompt], "labels": [""]} for reply in REPLIES
    ]
    answers = posted(flag(command, "--reward.remote_url"), bodies)
    for answer, reward in zip(answers, expected(url), strict=True):
        assert answer["rewards"] == answer["scores"] == [pytest.approx(reward, abs=1e-5)]
        assert {"base_reward", "penalty", "score_sycophancy"} <= set(answer["extra_logs"])


def test_openrlhf_with_patience(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"CANDOR_REWARD_URL": url, "PROMPTS": "prompts.jsonl", "PATIENT": "1"}
    path = Path(flag(command_of("openrlhf/reinforce.sh", tmp_path, **env), "--reward.remote_url"))
    prompt = templated()
    asked = ([prompt + REPLIES[0] + END], [prompt], [""])
    monkeypatch.setenv("CANDOR_REWARD_URL", url)
    told = module_at(path).reward_func(*asked)
    assert told["rewards"] == [pytest.approx(expected(url)[0], abs=1e-5)]
    monkeypatch.setenv("CANDOR_REWARD_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("CANDOR_PATIENCE_S", "0")
    with pytest.raises(Unreachable):
        module_at(path).reward_func(*asked)


def test_slime(url: str, tmp_path: Path) -> None:
    """`remote_rm` of slime v0.3.1 (rollout/rm_hub/__init__.py): the answer, or a field of it, is
    the reward; `Sample.get_reward_value` picks it."""
    command = command_of("slime/grpo.sh", tmp_path, CANDOR_REWARD_URL=url, PROMPTS="prompts.jsonl")
    assert command[0] == f"{tmp_path}/train.py"
    assert "--num-layers" in command
    assert flag(command, "--rm-type") == "remote_rm"
    bodies = [{"prompt": templated(), "response": reply, "label": None} for reply in REPLIES]
    answers = posted(flag(command, "--rm-url"), bodies)
    rewards = [answer[flag(command, "--reward-key")] for answer in answers]
    assert rewards == pytest.approx(expected(url), abs=1e-5)
    assert posted(f"{url}/slime", bodies) == pytest.approx(rewards, abs=1e-5)


def test_verl(url: str, tmp_path: Path) -> None:
    command = command_of("verl/grpo.sh", tmp_path, CANDOR_REWARD_URL=url, TRAIN="train.parquet")
    assert command[:2] == ["-m", "verl.trainer.main_ppo"]
    overrides = dict(word.split("=", 1) for word in command[2:])
    custom = "reward.custom_reward_function"
    kwargs = {
        name.removeprefix(f"+{custom}.reward_kwargs."): value
        for name, value in overrides.items()
        if name.startswith(f"+{custom}.reward_kwargs.")
    }
    kwargs["patience_s"] = float(kwargs["patience_s"])
    assert overrides[f"{custom}.name"] == "compute_score"
    function = loaded_by_verl(overrides[f"{custom}.path"], kwargs)
    scored = batch_of_verl(function, REPLIES, {"prompt": QUESTION})
    assert [one["score"] for one in scored] == pytest.approx(expected(url), abs=1e-5)


@pytest.mark.trl
def test_verl_data_carries_the_prompt_to_the_reward(url: str, tmp_path: Path) -> None:
    from datasets import load_dataset

    source, out = tmp_path / "prompts.jsonl", tmp_path / "prompts.parquet"
    source.write_text(json.dumps({"key": "one", "messages": QUESTION}) + "\n")
    module_at(ROOT / "examples" / "verl" / "data.py").main(source, out)
    (row,) = load_dataset("parquet", data_files=str(out), cache_dir=str(tmp_path))["train"]
    function = loaded_by_verl("pkg://candor.client.verl", {"url": url})
    (scored,) = batch_of_verl(function, REPLIES[:1], row["extra_info"])
    assert scored["score"] == pytest.approx(expected(url)[0], abs=1e-5)


@pytest.mark.trl
def test_trl(url: str, tmp_path: Path) -> None:
    """The script itself, with a tiny policy, for two steps."""
    from tests.tiny import tiny_policy

    save_tiny(tmp_path / "policy", tiny_policy(), tiny_tokenizer())
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"messages": QUESTION}) + "\n")
    flags = {
        "model": tmp_path / "policy",
        "prompts": tmp_path / "prompts.jsonl",
        "out": tmp_path / "out",
        "reward-url": url,
        "steps": 2,
        "prompts-per-step": 1,
        "completions": 4,
        "max-tokens": 8,
    }
    try:
        logged = module_at(ROOT / "examples" / "trl" / "grpo.py").main(
            [f"--{name}={value}" for name, value in flags.items()]
        )
    finally:
        close_others()
    assert len(logged) == 2
    assert all("candor/score/sycophancy" in line for line in logged)
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_scripts_without_prompts_say_what_is_missing(tmp_path: Path) -> None:
    for script, name in (
        ("openrlhf/reinforce.sh", "PROMPTS"),
        ("slime/grpo.sh", "PROMPTS"),
        ("verl/grpo.sh", "TRAIN"),
    ):
        done = subprocess.run([ROOT / "examples" / script], capture_output=True, text=True)
        assert done.returncode != 0
        assert name in done.stderr
