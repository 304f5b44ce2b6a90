"""A run from its checked inputs to its end: resume, train, and say how it ended."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from candor.client.rows import Server
from candor.jobs.rl.drift import DriftWatch
from candor.jobs.rl.ending import Run, ended_before, finish, say
from candor.jobs.rl.evaluate import Evaluation
from candor.jobs.rl.inputs import Inputs, Servers
from candor.jobs.rl.journal import Journal
from candor.jobs.rl.reward import reward_function
from candor.jobs.rl.sample import Sampling
from candor.jobs.rl.settings import Guards, Settings, claim, identity
from candor.jobs.rl.strength import Schedule, as_flags
from candor.jobs.rl.trainer import build_trainer, grpo_config, last_checkpoint
from candor.jobs.rl.watch import Ended, Watch
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.manifest import now


def train(out: Path, settings: Settings, guards: Guards, servers: Servers, inputs: Inputs) -> Exit:
    """Begin or go on, to the last step or to where a guard or a signal ends it.

    Raises:
        JobStopped: other settings, another process, a guard, a signal.
        ClientError: the server stayed away; finished checkpoints are safe.
    """
    started = now()
    out.mkdir(parents=True, exist_ok=True)
    made_of = identity(settings, inputs.identity())
    with ExitStack() as stack:
        lock(stack, out)
        claim(out, made_of)
        if (before := ended_before(out, guards)) is not None:
            return say(before)
        checkpoint, at = last_checkpoint(out)
        steps, evaluations = Journal(out / "steps.jsonl"), Journal(out / "evals.jsonl")
        for journal in (steps, evaluations):
            journal.go_back(at)
        drift = DriftWatch(
            servers.url, servers.operator_key or servers.api_key, list(inputs.strengths)
        )
        stack.callback(drift.close)
        watch = Watch(
            steps=steps,
            evaluations=evaluations,
            evaluation=evaluation(out, settings, servers, inputs),
            every=settings.eval_every,
            drift=drift if drift.start(needed=servers.operator_key is not None) else None,
            guards=guards,
        )
        if at < settings.steps:  # else it was killed between the last step and the summary
            take_steps(out, settings, servers, inputs, watch, checkpoint)
        ended = watch.ended or Ended("done", "all steps were taken")
        if ended.why == "interrupted":
            raise JobStopped(Exit.INTERRUPTED, ended.reason)
        run = Run(out, made_of, guards, inputs, started)
        summary = finish(run, ended, *last_checkpoint(out), evaluations.rows())
    return say(summary)


def take_steps(
    out: Path,
    settings: Settings,
    servers: Servers,
    inputs: Inputs,
    watch: Watch,
    checkpoint: Path | None,
) -> None:
    """TRL's own loop. However it ends, its last step is in a checkpoint, unless it raised."""
    server = Server(
        servers.url,
        api_key=servers.api_key,
        timeout_s=servers.timeout_s,
        patience_s=servers.retry_budget_s,
    )
    schedule = Schedule(inputs.strengths, settings.warmup_steps)
    config = grpo_config(out, settings)
    with reward_function(server, schedule) as reward, watch.stopping_on_signal():
        trainer = build_trainer(inputs.policy, inputs.rows, reward, config, settings, watch)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def evaluation(out: Path, settings: Settings, servers: Servers, inputs: Inputs) -> Evaluation:
    """Of the held-out prompts, scored with the full penalties."""

    flags: dict[str, Any] = as_flags(inputs.strengths)

    def rate(rollouts: Path, scored: Path) -> int:
        options = ScoreOptions(
            rollouts=rollouts,
            out=scored,
            reward_url=servers.eval_url,
            api_key_file=servers.api_key_file,
            **flags,
            timeout_s=servers.timeout_s,
            retry_budget_s=servers.retry_budget_s,
        )
        return score(options)

    how = Sampling(settings.eval_n, settings.max_tokens, settings.temperature, settings.seed)
    return Evaluation(inputs.held_out, how, rate, out / "evals")


def lock(stack: ExitStack, out: Path) -> None:
    """Raises JobStopped (I/O) while another process trains in `out`."""
    handle = os.open(out / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JobStopped(Exit.IO, f"{out}: another run is training there") from None
