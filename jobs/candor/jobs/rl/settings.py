"""Every option of `candor rl`, stated once, in frozen dataclasses that check themselves.

cyclopts makes the flags and `--help` of the fields: the docstring of a field is the help of its
flag. `TrainingSettings` and `identity` hold everything that decides the numbers, so that a rerun
with other values is refused and does not make a run of two halves. Guards only end a run, so they
may change. Nothing here imports torch.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from cyclopts import Group, Parameter

from candor.client.wire import EmptyResponse
from candor.flags import RewardUrl, UsageError, read_key_file, read_server_key
from candor.jobs.rollouts.strengths import KappaOption, LambdaOption
from candor.jobs.running.files import write_json


@Parameter(name="*", group=Group("Run", sort_key=1))
@dataclass(frozen=True)
class RunOptions:
    """What a run is made from, and where it writes."""

    policy: Path
    """Folder of the policy: a causal language model and its tokenizer."""
    _: KW_ONLY
    prompts: Path
    """JSONL of {"key", "messages"}: the prompts to train on."""
    out: Path
    """Folder for everything that the run writes."""
    eval_prompts: Path | None = None
    """Prompts of the evaluations, as `candor data prompts` writes them. Default: prompts about the
    poems that come with Candor."""
    penalty: LambdaOption = None
    kappa: KappaOption = None


@Parameter(name="*", group=Group("Reward server", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where rewards come from, with which keys, and how long to wait."""

    reward_url: RewardUrl
    """Address of the Candor server."""
    eval_reward_url: str | None = None
    """Address of a second server for the evaluations, so that their texts do not enter the drift
    windows of the first. Default: the first server."""
    api_key_file: Path | None = None
    """File that holds the servers' API key. Default: the key in CANDOR_API_KEY."""
    operator_key_file: Path | None = None
    """File that holds the operator's key, for alarms and monitors at /v1/drift. Default: the API
    key."""
    timeout_s: float = 120.0
    """Longest wait for one answer, in seconds."""
    retry_budget_s: float = 300.0
    """How long a server may be unreachable before the run stops, in seconds."""

    @property
    def eval_url(self) -> str:
        """Address of the server that scores the evaluations."""
        return self.eval_reward_url or self.reward_url

    @property
    def api_key(self) -> str | None:
        """Raises UsageError where the file cannot be read."""
        return read_server_key("--api-key-file", self.api_key_file)

    @property
    def operator_key(self) -> str | None:
        """Raises UsageError where the file cannot be read."""
        return read_key_file("--operator-key-file", self.operator_key_file)


@Parameter(name="*", group=Group("Training and evaluation", sort_key=3))
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """The options that decide what is trained.

    Raises:
        UsageError: at construction, for a value out of range.
    """

    steps: int = 200
    """Optimiser steps."""
    group_size: int = 8
    """Responses per prompt. Their mean reward is the baseline of each."""
    prompts_per_step: int = 4
    """Prompts per step."""
    learning_rate: float = 1e-5
    """Learning rate of AdamW; constant."""
    beta: float = 0.02
    """Weight of the KL divergence from the starting policy. 0 switches it off."""
    warmup_steps: int = 0
    """Number n of steps over which the penalty grows from 1/n of its strength to all of it."""
    max_tokens: int = 256
    """Most tokens per response."""
    temperature: float = 1.0
    """Sampling temperature of the responses; top_p is 1."""
    stop: str | None = None
    """A response ends with the first token that contains this text, for example a full stop.
    Default: it ends only with the policy's end token."""
    empty_response: EmptyResponse = "error"
    """A response without a token: `error` leaves it out of its group, `score` gives the R of the
    empty turn, without a penalty."""
    lora_rank: int = 16
    """Rank of the LoRA adapter on the linear layers. 0 trains the weights themselves."""
    train_layers: int | None = None
    """Number of layers, from the top, that are trained; the others, the embeddings and the head
    stay as they are, and no gradient is computed for them. Default: all layers."""
    permute_penalties: bool = False
    """The null arm: the penalties of the responses to one prompt are handed out among them at
    random, so that the penalty has the same size and knows nothing."""
    generation: str = "auto"
    """What samples the responses: transformers, vllm, the URL of a trl vllm-serve, or auto: vllm
    where there is a GPU and vLLM is installed, else transformers."""
    seed: int = 0
    """Seed of the adapter, of the order of prompts and of the responses."""
    eval_every: int = 50
    """Steps between evaluations. 0 evaluates only at the start and at the end."""
    eval_n: int = 4
    """Responses per prompt of an evaluation."""
    save_every: int = 10
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for flag, value, least in (
            ("--steps", self.steps, 1),
            ("--group-size", self.group_size, 2),
            ("--prompts-per-step", self.prompts_per_step, 1),
            ("--warmup-steps", self.warmup_steps, 0),
            ("--max-tokens", self.max_tokens, 1),
            ("--lora-rank", self.lora_rank, 0),
            ("--eval-every", self.eval_every, 0),
            ("--eval-n", self.eval_n, 1),
            ("--save-every", self.save_every, 1),
            ("--train-layers", self.train_layers, 1),
        ):
            if value is not None and value < least:
                raise UsageError(f"{flag} {value}: must be at least {least}")
        if self.stop == "":
            raise UsageError("--stop: is an empty text; leave it out to wait for the end token")
        for name, number in (
            ("--learning-rate", self.learning_rate),
            ("--temperature", self.temperature),
        ):
            if not (math.isfinite(number) and number > 0):
                raise UsageError(f"{name} {number}: must be a number above 0")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise UsageError(f"--beta {self.beta}: must be a number, at least 0")


@Parameter(name="*", group=Group("Guards", sort_key=4))
@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What ends a run before its last step.

    Raises:
        UsageError: at construction, for a value out of range.
    """

    stop_on_alarm: bool = True
    """End the run when a drift alarm of the server is active."""
    quality_floor: float | None = None
    """End the run when mean R on the neutral prompts of the evaluations is this far below its
    start, in reward units."""

    def __post_init__(self) -> None:
        if self.quality_floor is not None and not self.quality_floor >= 0:
            raise UsageError(f"--quality-floor {self.quality_floor}: must be a number, at least 0")


def identity(settings: TrainingSettings, others: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the run, flat: the settings, and `others`, such as hashes of
    inputs."""
    return {**asdict(settings), **others}


def claim(out: Path, wanted: dict[str, Any]) -> None:
    """Begin a run in `out`, or continue the run that is there.

    Raises:
        UsageError: a run with other settings is there; the message names the settings.
    """
    path = out / "run.json"
    wanted = orjson.loads(orjson.dumps(wanted))
    if not path.exists():
        write_json(path, wanted)
        return
    found = orjson.loads(path.read_bytes())
    other = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    if other:
        values = ", ".join(f"{n}: {found.get(n)!r} there, now {wanted.get(n)!r}" for n in other)
        raise UsageError(f"{path}: a run with other settings ({values}); give another --out")
