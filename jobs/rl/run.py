"""`candor rl`: train a policy against a Candor server, and stop when something says so.

    OUT/run.json         what the run is; a rerun with other settings is refused
    OUT/steps.jsonl      a row a step
    OUT/evals.jsonl      a row an evaluation; its samples and scores are in OUT/evals/
    OUT/checkpoints/     the trainer's own
    OUT/policy/          the adapter (or the weights) in the end
    OUT/summary.json     how it ended; its manifest is written last

The rerun of a run that has ended says again how it ended. What a row holds: `watch`.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from client.retry import Retry, http_url
from client.reward import RewardClient
from client.rows import Server
from jobs.exits import Exit, JobStopped, exit_code
from jobs.files import Row, read_rows, sha256_of, write_json
from jobs.manifest import now, write_manifest
from jobs.rl.drift import DriftWatch
from jobs.rl.evaluate import Evaluation, evaluation_rows
from jobs.rl.journal import Journal
from jobs.rl.sample import Sampling
from jobs.rl.settings import Guards, Settings, claim, identity
from jobs.rl.strength import Schedule, full_strengths
from jobs.run import read_api_key
from jobs.score import score
from jobs.scored import context_of
from jobs.strengths import parse_penalties
from jobs.sycophancy.judges import check_vader

NEEDED = ("trl", "peft", "datasets")
CODES = {
    "done": Exit.DONE,
    "drift_alarm": Exit.GUARD,
    "quality_floor": Exit.GUARD,
    "interrupted": Exit.INTERRUPTED,
}


def rl(
    *,
    policy: Path,
    prompts: Path,
    reward_url: str,
    out: Path,
    steps: int = 200,
    group_size: int = 8,
    prompts_per_step: int = 4,
    learning_rate: float = 1e-5,
    beta: float = 0.02,
    penalty: list[str] | None = None,
    kappa: list[str] | None = None,
    warmup_steps: int = 0,
    max_tokens: int = 256,
    temperature: float = 1.0,
    lora_rank: int = 16,
    generation: str = "auto",
    seed: int = 0,
    eval_every: int = 50,
    eval_n: int = 4,
    eval_prompts: Path | None = None,
    eval_reward_url: str | None = None,
    save_every: int = 10,
    stop_on_alarm: bool = True,
    quality_floor: float | None = None,
    api_key_file: Path | None = None,
    operator_key_file: Path | None = None,
    timeout_s: float = 120.0,
    retry_budget_s: float = 300.0,
) -> int:
    """Train a policy by GRPO on the penalised reward. Killed, the same command goes on.

    Parameters
    ----------
    policy
        Folder of the causal LM and its tokenizer.
    prompts
        JSONL of {"key", "messages"}: what is trained on.
    reward_url
        The Candor server.
    out
        Folder for everything the run leaves.
    steps
        Optimiser steps.
    group_size
        Responses drawn to a prompt; their mean reward is the baseline.
    prompts_per_step
        Prompts of a step.
    learning_rate
        Of AdamW; constant.
    beta
        Weight of the KL to the starting policy; 0 is none.
    penalty
        NAME=LAMBDA in place of the served strength; may be repeated. 0 trains on R.
    kappa
        NAME=KAPPA: lambda in standard deviations, from the served card's calibration.
    warmup_steps
        The penalty rises from 1/n of its strength at the first step to all of it at the n-th.
    max_tokens
        Longest response.
    temperature
        Of the responses; top_p is 1.
    lora_rank
        Of the adapter on all linear layers; 0 trains every weight.
    generation
        auto (vLLM beside a GPU where it is installed), transformers, vllm, or the URL of a
        trl vllm-serve.
    seed
        Of the adapter, the order of prompts and the responses.
    eval_every
        Steps between evaluations; 0 evaluates at the start and the end alone.
    eval_n
        Responses to each prompt of an evaluation.
    eval_prompts
        Feedback prompts as candor data prompts writes them; default: those on the evaluation's own
        poems.
    eval_reward_url
        A second server for the evaluations, so that their texts do not enter the drift windows of
        the first.
    save_every
        Steps between checkpoints.
    stop_on_alarm
        End the run when a drift alarm of the server is active.
    quality_floor
        End the run when the mean R of neutral held-out prompts is this far below its start.
    api_key_file
        File with the servers' key.
    operator_key_file
        File with the key of /v1/drift, for alarms and monitors; default: the API key.
    timeout_s
        Longest wait for one answer, in seconds.
    retry_budget_s
        How long a server may stay away before the run stops, in seconds.
    """

    def run() -> Exit:
        started = now()
        check_installed()
        settings = Settings(
            steps=steps,
            group_size=group_size,
            prompts_per_step=prompts_per_step,
            learning_rate=learning_rate,
            beta=beta,
            warmup_steps=warmup_steps,
            max_tokens=max_tokens,
            temperature=temperature,
            lora_rank=lora_rank,
            seed=seed,
            eval_every=eval_every,
            eval_n=eval_n,
            save_every=save_every,
        )
        guards = Guards(stop_on_alarm, quality_floor)
        given = parse_penalties(penalty or (), kappa or (), ())
        rows = training_rows(prompts)
        held_out = evaluation_rows(eval_prompts)
        check_apart(prompts, rows, held_out)
        api_key = read_api_key(api_key_file)
        operator_key = read_api_key(operator_key_file)
        served, strengths = ask(reward_url, api_key, given, timeout_s, retry_budget_s)
        made_of = {
            "policy_sha256": weights_of(policy),
            "prompts_sha256": sha256_of(rows),
            "eval_prompts_sha256": sha256_of(held_out),
            "revision": served["model"].get("revision"),
            "strengths": strengths,
            "generation": generation,
        }
        out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            lock(stack, out)
            claim(out, identity(settings, made_of))
            if (done := ended_before(out, guards)) is not None:
                return done
            drift = DriftWatch(reward_url, operator_key or api_key, list(strengths))
            stack.callback(drift.close)
            watched = drift.start(needed=operator_key is not None)

            def rate(rollouts: Path, scored: Path) -> int:
                return score(
                    rollouts=rollouts,
                    out=scored,
                    reward_url=eval_reward_url or reward_url,
                    api_key_file=api_key_file,
                    **as_flags(strengths),
                    timeout_s=timeout_s,
                    retry_budget_s=retry_budget_s,
                )

            from jobs.rl.trainer import build_trainer, grpo_config, last_checkpoint
            from jobs.rl.watch import Watch

            checkpoint, at = last_checkpoint(out)
            journals = Journal(out / "steps.jsonl"), Journal(out / "evals.jsonl")
            for journal in journals:
                journal.go_back(at)
            how = Sampling(eval_n, max_tokens, temperature, seed)
            watch = Watch(
                steps=journals[0],
                evaluations=journals[1],
                evaluation=Evaluation(held_out, how, rate, out / "evals"),
                every=eval_every,
                drift=drift if watched else None,
                guards=guards,
            )
            reward = reward_of(reward_url, api_key, strengths, settings, timeout_s, retry_budget_s)
            config = grpo_config(out, settings, generation)
            trainer = build_trainer(str(policy), rows, reward, config, settings, watch)
            watch.stop_on_signal()
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            why = "done" if watch.ended is None else watch.ended.why
            if why == "interrupted" and trainer.state.global_step < steps:
                raise JobStopped(Exit.INTERRUPTED, "interrupted; the same command goes on")
            trainer.save_model(str(out / "policy"))
            summary = {
                "out": str(out),
                "ended": why,
                "reason": None if watch.ended is None else watch.ended.reason,
                "guards": asdict(guards),
                "steps": trainer.state.global_step,
                "start": journals[1].rows()[0],
                "end": journals[1].rows()[-1],
            }
            finish(out, summary, settings, made_of, served, prompts, eval_prompts, started)
        return say(summary)

    return exit_code(run)


def check_installed() -> None:
    """Raises JobStopped (usage) before any work is done."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise JobStopped(
                Exit.USAGE, f"no module {name!r}: pip install 'candor-rewards[rl]' for candor rl"
            )
    check_vader()


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


def weights_of(policy: Path) -> str:
    from probes.identity import weights_sha256

    try:
        return weights_sha256(policy)
    except (OSError, ValueError) as error:
        raise JobStopped(Exit.USAGE, f"--policy {policy}: {error}") from None


def ask(
    url: str, api_key: str | None, given: Any, timeout_s: float, budget_s: float
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """What the server says of its model and probes, and every probe's full strength."""
    try:
        http_url(url)
    except ValueError as error:
        raise JobStopped(Exit.USAGE, f"--reward-url: {error}") from None
    retry = Retry(budget_s=budget_s)
    with RewardClient(url, api_key=api_key, timeout_s=timeout_s, retry=retry) as client:
        model = client.models()["data"][0]
        probes = client.probes()["probes"]
    return {"model": model, "probes": probes}, full_strengths(given, probes)


def reward_of(
    url: str,
    api_key: str | None,
    strengths: dict[str, dict[str, float]],
    settings: Settings,
    timeout_s: float,
    budget_s: float,
) -> Any:
    from jobs.rl.reward import reward_function

    server = Server(url, api_key=api_key, timeout_s=timeout_s, patience_s=budget_s)
    return reward_function(server, Schedule(strengths, settings.warmup_steps))


def as_flags(strengths: dict[str, dict[str, float]]) -> dict[str, list[str]]:
    """The strengths as `--penalty` and `--kappa` of `candor score`."""
    flags: dict[str, list[str]] = {"penalty": [], "kappa": []}
    for name, one in strengths.items():
        for unit, strength in one.items():
            flags["penalty" if unit == "lambda" else unit].append(f"{name}={strength!r}")
    return flags


def lock(stack: ExitStack, out: Path) -> None:
    """Raises JobStopped (I/O) while another process trains in `out`."""
    handle = os.open(out / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JobStopped(Exit.IO, f"{out}: another run is training there") from None


def ended_before(out: Path, guards: Guards) -> Exit | None:
    """How the run in `out` ended, told again; None when it goes on: it has not ended, or by a
    guard that is another now."""
    path = out / "summary.json"
    if not path.exists():
        return None
    summary = orjson.loads(path.read_bytes())
    if summary["ended"] != "done" and summary["guards"] != asdict(guards):
        return None
    return say(summary)


def say(summary: dict[str, Any]) -> Exit:
    """The last line of stdout; the exit code, after a line on stderr when a guard ended it."""
    numbers = ("gap", "like", "dislike", "neutral_base_reward")
    told = {
        **{name: summary[name] for name in ("out", "ended", "reason", "steps")},
        **{at: {n: summary[at][n]["mean"] for n in numbers} for at in ("start", "end")},
    }
    print(orjson.dumps(told).decode(), flush=True)
    code = CODES[summary["ended"]]
    if code is Exit.GUARD:
        raise JobStopped(code, f"stopped at step {summary['steps']}: {summary['reason']}")
    return code


def finish(
    out: Path,
    summary: dict[str, Any],
    settings: Settings,
    made_of: dict[str, Any],
    served: dict[str, Any],
    prompts: Path,
    eval_prompts: Path | None,
    started: str,
) -> None:
    """summary.json and its manifest."""
    path = out / "summary.json"
    write_json(path, summary)
    inputs = {"prompts": prompts, "steps": out / "steps.jsonl", "evals": out / "evals.jsonl"}
    if eval_prompts is not None:
        inputs["eval_prompts"] = eval_prompts
    write_manifest(
        path,
        command="rl",
        inputs=inputs,
        settings={**identity(settings, made_of), **summary["guards"]},
        server=served,
        counts={"steps": summary["steps"]},
        started=started,
    )
