"""What a run is made from: prompts, the policy's weights, and the server's description of itself.

Everything is read and checked before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candor.client.retry import Retry, http_url
from candor.client.reward import RewardClient
from candor.flags import UsageError
from candor.jobs.rl.evaluation.evaluate import evaluation_rows
from candor.jobs.rl.settings import RunOptions, ServerOptions
from candor.jobs.rl.strength import Strengths, full_strengths
from candor.jobs.rollouts.scored import context_of
from candor.jobs.rollouts.strengths import parse_penalties
from candor.jobs.running.files import Row, read_input, sha256_of
from candor.jobs.sycophancy.judges import check_vader
from candor.probes.identity import weights_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Attributes:
    policy: folder of the policy; `policy_sha256` is over its weights.
    rows, held_out: prompts to train on and prompts to evaluate.
    strengths: strength of every served probe's penalty, once warmed up.
    served: answers of `/v1/models` and `/v1/probes`, for the manifest.
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
        """The values that decide the run."""
        return {
            "policy_sha256": self.policy_sha256,
            "prompts_sha256": sha256_of(self.rows),
            "eval_prompts_sha256": sha256_of(self.held_out),
            "reward_model_sha256": self.served["models"][0].get("revision"),
            "strengths": self.strengths,
        }


def read_inputs(options: RunOptions, servers: ServerOptions) -> Inputs:
    """Raises:
    JobStopped, UsageError: a file or a flag is wrong, or a package is missing.
    ClientError: the server does not answer.
    """
    check_vader()
    given = parse_penalties(options.penalty, options.kappa, None)
    rows = training_rows(options.prompts)
    held_out = evaluation_rows(options.eval_prompts)
    check_apart(options.prompts, rows, held_out)
    try:
        policy_sha256 = weights_sha256(options.policy)
    except (OSError, ValueError) as error:
        raise UsageError(f"--policy {options.policy}: {error}") from None
    served = ask(servers)
    return Inputs(
        policy=options.policy,
        policy_sha256=policy_sha256,
        prompts=options.prompts,
        rows=rows,
        eval_prompts=options.eval_prompts,
        held_out=held_out,
        strengths=full_strengths(given, served["probes"]),
        served=served,
    )


def training_rows(path: Path) -> list[Row]:
    """Raises UsageError at a row without messages."""
    rows = read_input(path)
    for row in rows:
        if not isinstance(row.get("messages"), list) or not row["messages"]:
            error = row.get("error")
            why = f": {error.get('message')}" if isinstance(error, dict) else ""
            raise UsageError(f"{path}: key {row['key']!r} has no messages{why}")
    return rows


def check_apart(path: Path, rows: Sequence[Row], held_out: Sequence[Row]) -> None:
    """Raises UsageError when a prompt is in both sets."""
    held_out_contexts = {context_of(row) for row in held_out}
    for row in rows:
        if context_of(row) in held_out_contexts:
            raise UsageError(
                f"{path}: key {row['key']!r} is also a prompt of the evaluation; train on others"
            )


def ask(servers: ServerOptions) -> dict[str, Any]:
    """The server's description of its model and probes, without what changes at every start."""
    for flag, url in (
        ("--reward-url", servers.reward_url),
        ("--eval-reward-url", servers.eval_url),
    ):
        try:
            http_url(url)
        except ValueError as error:
            raise UsageError(f"{flag}: {error}") from None
    retry = Retry(budget_s=servers.retry_budget_s)
    with RewardClient(
        servers.reward_url, api_key=servers.api_key, timeout_s=servers.timeout_s, retry=retry
    ) as client:
        models = [
            {name: value for name, value in model.items() if name != "created"}
            for model in client.models()["data"]
        ]
        return {"models": models, **client.probes()}
