"""GRPO with TRL on the rewards of a Candor server.

    pip install candor-client trl peft datasets
    candor serve path/or/hub-id --probe probes/sycophancy --kappa sycophancy=1.0
    python examples/trl/grpo.py --model Qwen/Qwen3-0.6B --prompts prompts.jsonl --out runs/grpo

Prompts are JSON lines with `messages`. `candor/...` in the logs are R (the reward model's raw
score), the penalty, each probe's score S and the number of rows without a reward. The server may be
down for --patience-s. CANDOR_API_KEY holds a server's key. `accelerate launch` runs the script on
several GPUs; --vllm samples with vLLM.

This is the trainer's own loop and no more. `candor rl` adds an evaluation, a KL and penalty
schedule, resuming, and guards that stop the run.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from candor.client.trl import reward_function


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="GRPO on the rewards of a Candor server.")
    url = os.environ.get("CANDOR_REWARD_URL", "http://127.0.0.1:8000")
    parser.add_argument("--model", required=True, help="the policy: a folder or hub id")
    parser.add_argument("--prompts", type=Path, required=True, help="JSON lines with 'messages'")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter")
    parser.add_argument("--reward-url", default=url, help=f"the Candor server ({url})")
    parser.add_argument("--patience-s", type=float, default=300.0)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--prompts-per-step", type=int, default=4)
    parser.add_argument("--completions", type=int, default=8, help="of each prompt")
    parser.add_argument("--max-tokens", type=int, default=128, help="of a completion")
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--beta", type=float, default=0.02, help="weight of the KL term")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vllm", action="store_true", help="sample with vLLM on the same GPU")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[dict[str, float]]:
    """Trains, saves the adapter and returns what was logged, one dict a step."""
    args = arguments(argv)
    has_gpu = torch.cuda.is_available()
    with args.prompts.open(encoding="utf-8-sig") as lines:
        prompts = [{"prompt": json.loads(line)["messages"]} for line in lines if line.strip()]
    trainer = GRPOTrainer(
        args.model,
        reward_funcs=reward_function(args.reward_url, patience_s=args.patience_s),
        args=GRPOConfig(
            output_dir=str(args.out),
            max_steps=args.steps,
            per_device_train_batch_size=args.prompts_per_step * args.completions,
            num_generations=args.completions,
            max_completion_length=args.max_tokens,
            learning_rate=args.learning_rate,
            beta=args.beta,
            seed=args.seed,
            use_vllm=args.vllm,
            vllm_mode="colocate",
            use_cpu=not has_gpu,
            bf16=has_gpu,
            model_init_kwargs={"dtype": "bfloat16" if has_gpu else "float32"},
            logging_steps=1,
            report_to=[],
        ),
        train_dataset=Dataset.from_list(prompts),
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model()
    return [line for line in trainer.state.log_history if "step_time" in line]


if __name__ == "__main__":
    main()
