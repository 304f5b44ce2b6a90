"""What a run is made from: prompts, the policy's weights, and what the server says of itself.

Read and checked before anything is loaded. No torch beyond what the hash of the weights needs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from candor.client.retry import Retry, http_url
from candor.client.reward import RewardClient
from candor.jobs.rl.evaluate import evaluation_rows
from candor.jobs.rl.strength import Strengths, full_strengths
from candor.jobs.rollouts.scored import context_of
from candor.jobs.rollouts.strengths import Penalties
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row, read_rows, sha256_of
from candor.jobs.sycophancy.judges import check_vader
from candor.probes.identity import weights_sha256

NEEDED = ("trl", "peft", "datasets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where rewards come from, with which keys, and the patience with it."""

    url: str
    eval_url: str
    """Of the evaluations; the same, or one whose drift nobody watches."""
    api_key_file: Path | None
    api_key: str | None = field(repr=False)
    operator_key: str | None = field(repr=False)
    timeout_s: float
    retry_budget_s: float


@dataclass(frozen=True, slots=True)
class Inputs:
    """Attributes:
    policy: its folder; policy_sha256 of its weights.
    rows, held_out: what is trained on and what is evaluated.
    strengths: of every served probe, once warmed up.
    served: `/v1/models` and `/v1/probes`, for the manifest.
    """

    policy: Path
    policy_sha256: str
    prompts: Path
    rows: list[Row]
    eval_prompts: Path | None
    held_out: list[Row]
    strengths: Strengths
    served: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """Whatever of this decides the run."""
        return {
            "policy_sha256": self.policy_sha256,
            "prompts_sha256": sha256_of(self.rows),
            "eval_prompts_sha256": sha256_of(self.held_out),
            "reward_model_sha256": self.served["models"][0].get("revision"),
            "strengths": self.strengths,
        }


def check_installed() -> None:
    """Raises JobStopped (usage) before any work is done."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise JobStopped(
                Exit.USAGE, f"no module {name!r}: pip install 'candor-rewards[rl]' for candor rl"
            )
    check_vader()


def read_inputs(
    policy: Path, prompts: Path, eval_prompts: Path | None, servers: Servers, given: Penalties
) -> Inputs:
    """Raises:
    JobStopped: (usage) a file or flag that cannot be right.
    ClientError: the server does not answer.
    """
    rows = training_rows(prompts)
    held_out = evaluation_rows(eval_prompts)
    check_apart(prompts, rows, held_out)
    try:
        of_policy = weights_sha256(policy)
    except (OSError, ValueError) as error:
        raise JobStopped(Exit.USAGE, f"--policy {policy}: {error}") from None
    served = ask(servers)
    strengths = full_strengths(given, served["probes"])
    return Inputs(policy, of_policy, prompts, rows, eval_prompts, held_out, strengths, served)


def training_rows(path: Path) -> list[Row]:
    """Raises JobStopped (usage) at a row without messages."""
    rows = read_rows(path)
    for row in rows:
        if not isinstance(row.get("messages"), list) or not row["messages"]:
            raise JobStopped(Exit.USAGE, f"{path}: key {row['key']!r} has no messages")
    return rows


def check_apart(path: Path, rows: Sequence[Row], held_out: Sequence[Row]) -> None:
    """Raises JobStopped (usage) when a prompt is trained on and evaluated."""
    known = {context_of(row) for row in held_out}
    for row in rows:
        if context_of(row) in known:
            raise JobStopped(
                Exit.USAGE,
                f"{path}: key {row['key']!r} is also a prompt of the evaluation; train on others",
            )


def ask(servers: Servers) -> dict[str, Any]:
    """What the server says of its model and probes, without what changes at every start."""
    for flag, url in (("--reward-url", servers.url), ("--eval-reward-url", servers.eval_url)):
        try:
            http_url(url)
        except ValueError as error:
            raise JobStopped(Exit.USAGE, f"{flag}: {error}") from None
    retry = Retry(budget_s=servers.retry_budget_s)
    with RewardClient(
        servers.url, api_key=servers.api_key, timeout_s=servers.timeout_s, retry=retry
    ) as client:
        models = [
            {name: value for name, value in one.items() if name != "created"}
            for one in client.models()["data"]
        ]
        return {"models": models, **client.probes()}
