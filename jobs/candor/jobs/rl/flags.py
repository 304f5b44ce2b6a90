"""`candor rl`: train a policy against a Candor server, and stop when something says so.

    OUT/run.json         what the run is; a rerun with other settings is refused
    OUT/steps.jsonl      a row a step (`candor.jobs.rl.watch`)
    OUT/evals.jsonl      a row an evaluation; its samples and scores are in OUT/evals/
    OUT/checkpoints/     the trainer's own
    OUT/policy/          the adapter (or the weights) in the end
    OUT/summary.json     how it ended; its manifest is written last

Flags only; the job is `candor.jobs.rl.job`, which loads TRL.
"""

from __future__ import annotations

from pathlib import Path

from candor.jobs.rl.inputs import Servers, check_installed, read_inputs
from candor.jobs.rl.settings import Guards, Settings
from candor.jobs.rollouts.strengths import parse_penalties
from candor.jobs.running.exits import Exit, exit_code
from candor.jobs.running.rows import read_api_key


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
            generation=generation,
            seed=seed,
            eval_every=eval_every,
            eval_n=eval_n,
            save_every=save_every,
        )
        servers = Servers(
            url=reward_url,
            eval_url=eval_reward_url or reward_url,
            api_key_file=api_key_file,
            api_key=read_api_key(api_key_file),
            operator_key=read_api_key(operator_key_file),
            timeout_s=timeout_s,
            retry_budget_s=retry_budget_s,
        )
        guards = Guards(stop_on_alarm, quality_floor)
        given = parse_penalties(penalty or (), kappa or (), ())
        inputs = read_inputs(policy, prompts, eval_prompts, servers, given)
        from candor.jobs.rl.job import train

        return train(out, settings, guards, servers, inputs)

    return exit_code(run)
