"""TRL's own GRPOTrainer trains a tiny random policy against a live server that dies half-way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, TrainerCallback

from candor.client import Unreachable
from candor.client.errors import PermanentError
from candor.client.trl import reward_function
from candor.client.trl_advantages import advantage_functions
from candor.jobs.running.processes import free_port
from tests.client.asking import close_others
from tests.serve_process import ServeProcess, save_served
from tests.tiny import tiny_policy, tiny_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.trl]

AWAY_S = 10.0
STEPS = 20
BATCH = 32
PROMPTS = [f"What do you think of poem {number}?" for number in range(8)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    folder = save_served(tmp_path_factory.mktemp("trl"))
    server = ServeProcess(folder, f"--probe={folder / 'sycophancy'}", "--penalty=sycophancy=0.5")
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


class Outage(TrainerCallback):
    """The server is killed after one step, before the next one asks for its rewards."""

    def __init__(self, server: ServeProcess, after_step: int) -> None:
        self.server = server
        self.after_step = after_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.after_step:
            self.server.away(AWAY_S)


def trained(
    folder: Path,
    reward: Any,
    *,
    learning_rate: float = 1e-2,
    steps: int = STEPS,
    policy: PreTrainedModel | None = None,
    callbacks: list[TrainerCallback] | None = None,
    **config: Any,
) -> Any:
    """The trainer, after its run."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        policy or tiny_policy(),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=steps,
            learning_rate=learning_rate,
            lr_scheduler_type="constant",
            per_device_train_batch_size=BATCH,
            num_generations=8,
            max_completion_length=12,
            beta=0.0,
            seed=0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **config,
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": text}]} for text in PROMPTS]
        ),
        processing_class=tiny_tokenizer(),
        callbacks=callbacks,
    )
    try:
        trainer.train()
    finally:
        close_others()
    return trainer


def train(folder: Path, reward: Any, **settings: Any) -> list[dict[str, float]]:
    """What the trainer logged, one dict a step."""
    log: list[dict[str, float]] = trained(folder, reward, **settings).state.log_history
    return [line for line in log if "step_time" in line]


def gain(logged: list[dict[str, float]]) -> float:
    """Mean reward of the last five steps minus that of the first five."""
    rewards = [line["reward"] for line in logged]
    return (sum(rewards[-5:]) - sum(rewards[:5])) / 5


def test_grpo_learns_from_a_server_that_is_killed_and_comes_back(
    server: ServeProcess, tmp_path: Path
) -> None:
    first = server.process.pid
    outage = Outage(server, after_step=8)
    logged = train(tmp_path, reward_function(server.url), callbacks=[outage])
    assert server.process.pid != first
    assert len(logged) == STEPS
    assert logged[8]["step_time"] > AWAY_S
    # An empty completion has no reward; the outage cost none.
    assert max(line["candor/num_failed"] for line in logged) < 4
    assert gain(logged) > 3.0
    for line in logged:
        penalised = line["candor/base_reward"] - line["candor/penalty"]
        assert line["reward"] == pytest.approx(penalised, abs=1e-4)
        assert "candor/score/sycophancy" in line


def test_without_learning_the_reward_does_not_rise(server: ServeProcess, tmp_path: Path) -> None:
    logged = train(tmp_path, reward_function(server.url), learning_rate=0.0)
    assert abs(gain(logged)) < 1.0


def test_a_server_that_never_comes_ends_the_run_before_it_trains_on_nothing(tmp_path: Path) -> None:
    policy = tiny_policy()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    reward = reward_function(f"http://127.0.0.1:{free_port()}", patience_s=0.0)
    with pytest.raises(Unreachable):
        train(tmp_path, reward, steps=2, policy=policy)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def standardised(values: torch.Tensor) -> torch.Tensor:
    """Less the mean and over the standard deviation along the last axis, as TRL divides."""
    return (values - values.mean(-1, keepdim=True)) / (values.std(-1, keepdim=True) + 1e-4)


def test_the_advantage_side_subtracts_what_is_normalised_and_not_what_is_not(
    server: ServeProcess, tmp_path: Path
) -> None:
    weight, lambda_ = 0.7, 0.5  # the server's
    apart = ServeProcess(
        server.log.parent,
        f"--probe={server.log.parent / 'sycophancy'}",
        f"--penalty=sycophancy={lambda_}",
        "--method=advantage",
    )
    try:
        apart.wait_ready()
        trainer = trained(
            tmp_path,
            [*advantage_functions(apart.url)],
            steps=1,
            learning_rate=0.0,
            multi_objective_aggregation="normalize_then_sum",
            reward_weights=[1.0, -weight],
        )
    finally:
        apart.stop()
    logs = trainer._logs
    columns = (logs["rewards"][f"candor_{name}"] for name in ("base_reward", "advantage_penalty"))
    rewards, penalties = (torch.tensor([*column]).view(-1, 8) for column in columns)
    found = torch.tensor([*logs["advantages"]])
    by_parts = standardised(rewards) - weight * standardised(penalties)
    assert torch.allclose(found, standardised(by_parts.flatten()), atol=1e-3)
    # The control: the reward side, normalised(R - lambda * bound(S)), gives other advantages.
    for strength in (1.0, weight, weight / lambda_):
        together = standardised(rewards - strength * penalties)
        assert not torch.allclose(found, standardised(together.flatten()), atol=1e-2)
    assert float(penalties.std(1).min()) > 1e-3


def trl_grpo(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """TRL's own command, with the reward named by its dotted path and configured by the
    environment."""
    policy, data = folder / "policy", folder / "data"
    tiny_policy().save_pretrained(policy)
    tiny_tokenizer().save_pretrained(policy)
    data.mkdir()
    lines = ({"prompt": [{"role": "user", "content": text}], "level": 3} for text in PROMPTS)
    (data / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = {
        "model_name_or_path": policy,
        "dataset_name": data,
        "reward_funcs": "candor.client.trl.reward",
        "output_dir": folder / "out",
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "num_generations": 8,
        "max_completion_length": 8,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
    }
    return subprocess.run(
        [
            *(sys.executable, "-m", "trl.scripts.grpo"),
            *(word for name, value in flags.items() for word in (f"--{name}", str(value))),
        ],
        cwd=folder,
        env=os.environ
        | {
            "CANDOR_REWARD_URL": url,
            "CANDOR_REWARD_PATIENCE_S": "1",
            "CANDOR_REWARD_PENALTIES": '{"sycophancy": {"lambda": 2.0}}',
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_trls_command_takes_the_reward_by_its_dotted_path(
    server: ServeProcess, tmp_path: Path
) -> None:
    done = trl_grpo(tmp_path, server.url)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'candor/lambda/sycophancy': '2'" in done.stdout.replace("2.0", "2"), done.stdout
    assert "rewards/reward/mean" in done.stdout
    assert f"rewards come from {server.url}" in done.stderr


def test_trls_command_does_not_end_well_without_a_server(tmp_path: Path) -> None:
    done = trl_grpo(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert done.returncode != 0
    assert "Unreachable" in done.stderr
    assert "Is the server running, and is this its address?" in done.stderr
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_a_wrong_address_stops_the_run_with_its_name(server: ServeProcess, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="404"):
        train(tmp_path, reward_function(f"{server.url}/nowhere"), steps=1)


def test_trl_sees_a_coroutine_function_with_a_name() -> None:
    from trl.trainer.utils import get_callable_name, is_async_callable

    assert is_async_callable(reward_function("http://127.0.0.1:1"))
    assert get_callable_name(reward_function("http://127.0.0.1:1")) == "candor_reward"
