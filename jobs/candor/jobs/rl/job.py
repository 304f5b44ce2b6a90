"""A run from its checked inputs to its end: resume, train, and say how the run ended."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from candor.client.rows import RewardServer
from candor.jobs.generator.groups import Sampling, stop_ids
from candor.jobs.rl.drift import DriftWatch
from candor.jobs.rl.ending import RunRecord, ended_before, finish, say
from candor.jobs.rl.evaluation.evaluate import Evaluation
from candor.jobs.rl.inputs import Inputs
from candor.jobs.rl.labels.options import LabelOptions, OnScored, label_hook
from candor.jobs.rl.reference import UntrainedReference, check_windows
from candor.jobs.rl.reward import scheduled_reward_function
from candor.jobs.rl.settings import Guards, ServerOptions, TrainingSettings, claim, identity
from candor.jobs.rl.step_log import StepLog
from candor.jobs.rl.strength import Schedule, as_flags
from candor.jobs.rl.trainer import build_trainer, grpo_config, last_checkpoint
from candor.jobs.rl.watch import RunEnd, Watch
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.manifest import now

NO_LABELS = LabelOptions()


def train(
    out: Path,
    settings: TrainingSettings,
    guards: Guards,
    servers: ServerOptions,
    inputs: Inputs,
    labels: LabelOptions = NO_LABELS,
) -> Exit:
    """Begin or continue, until the last step or until a guard or a signal ends the run.

    Raises:
        UsageError: `out` holds a run with other settings.
        JobStopped: another process, a guard or a signal.
        ClientError: the server was unreachable for too long; finished checkpoints are safe.
    """
    started = now()
    out.mkdir(parents=True, exist_ok=True)
    run = RunRecord(out, identity(settings, inputs.identity()), guards, inputs, started)
    with ExitStack() as stack:
        lock(stack, out)
        claim(out, run.identity)
        if (before := ended_before(out, guards)) is not None:
            return say(before)
        checkpoint, at = last_checkpoint(out)
        steps, evaluations = StepLog(out / "steps.jsonl"), StepLog(out / "evals.jsonl")
        for log in (steps, evaluations):
            log.go_back(at)
        server = reward_server(servers, settings)
        key = servers.operator_key or servers.api_key
        drift = DriftWatch(servers.reward_url, key, list(inputs.strengths))
        stack.callback(drift.close)
        shown = drift.check_access(needed=servers.operator_key_file is not None)
        windows = drift.windows() if shown else None
        if windows is not None and at < settings.steps:
            check_windows(windows, settings, guards, settings.steps - at)
        watch = Watch(
            steps=steps,
            evaluations=evaluations,
            evaluation=evaluation(out, settings, servers, inputs),
            every=settings.eval_every,
            drift=drift if shown else None,
            guards=guards,
            reference=UntrainedReference(
                drift, server, inputs.rows, settings, ends_of(settings), out
            )
            if shown
            else None,
        )
        if at < settings.steps:  # else it was killed between the last step and the summary
            on_scored, close = label_hook(
                labels, servers.reward_url, key, inputs.strengths, inputs.rows, out, settings.seed
            )
            stack.callback(close)
            take_steps(out, settings, server, inputs, watch, checkpoint, on_scored)
        ended = watch.ended or RunEnd("done", "all steps were taken")
        if ended.why == "interrupted":
            raise JobStopped(Exit.INTERRUPTED, ended.reason)
        summary = finish(run, ended, *last_checkpoint(out), evaluations.rows())
    return say(summary)


def take_steps(
    out: Path,
    settings: TrainingSettings,
    server: RewardServer,
    inputs: Inputs,
    watch: Watch,
    checkpoint: Path | None,
    on_scored: OnScored | None,
) -> None:
    """TRL's own loop. Unless it raises, its last step is in a checkpoint."""
    schedule = Schedule(inputs.strengths, settings.warmup_steps)
    config = grpo_config(out, settings)
    permuted = settings.seed if settings.permute_penalties else None
    with (
        scheduled_reward_function(server, schedule, permuted, on_scored) as reward,
        watch.stopping_on_signal(),
    ):
        trainer = build_trainer(inputs.policy, inputs.rows, reward, config, settings, watch)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def reward_server(servers: ServerOptions, settings: TrainingSettings) -> RewardServer:
    """The server that rewards the training, as the adapters ask it."""
    return RewardServer(
        servers.reward_url,
        api_key=servers.api_key,
        timeout_s=servers.timeout_s,
        patience_s=servers.retry_budget_s,
        empty_response=settings.empty_response,
    )


def ends_of(settings: TrainingSettings) -> Callable[[Any], frozenset[int]]:
    """The tokens that end a response, given the tokenizer."""
    return lambda tokenizer: stop_ids(tokenizer, settings.stop)


def evaluation(
    out: Path, settings: TrainingSettings, servers: ServerOptions, inputs: Inputs
) -> Evaluation:
    """The evaluation of the held-out prompts, scored with the full penalties."""

    flags: dict[str, Any] = as_flags(inputs.strengths)

    def rate(rollouts: Path, scored: Path) -> int:
        options = ScoreOptions(
            rollouts=rollouts,
            out=scored,
            reward_url=servers.eval_url,
            api_key_file=servers.api_key_file,
            **flags,
            empty_response=settings.empty_response,
            timeout_s=servers.timeout_s,
            retry_budget_s=servers.retry_budget_s,
        )
        return score(options)

    how = Sampling(
        n=settings.eval_n,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        seed=settings.seed,
    )
    return Evaluation(
        rows=inputs.held_out,
        how=how,
        ends=ends_of(settings),
        score=rate,
        out=out / "evals",
    )


def lock(stack: ExitStack, out: Path) -> None:
    """Raises JobStopped (I/O) while another process trains in `out`."""
    handle = os.open(out / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JobStopped(Exit.IO, f"{out}: another run is training there") from None
