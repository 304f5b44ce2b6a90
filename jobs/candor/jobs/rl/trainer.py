"""TRL's GRPOTrainer from our settings, and where its checkpoints are.

Generation is TRL's: vLLM in the same process (`colocate`), a `trl vllm-serve` by URL, or
transformers. Learning rate and penalty change by nothing but the step, so a run that goes on from
a checkpoint takes the steps it would have taken.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from candor.forward.precision import cpu_dtype
from candor.jobs.rl.reward import RewardFunction
from candor.jobs.rl.settings import Settings
from candor.jobs.rl.watch import Watch
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row


def grpo_config(out: Path, settings: Settings) -> GRPOConfig:
    """TRL's settings of ours.

    Raises:
        JobStopped: (usage) `generation` is neither `auto` (vLLM beside a GPU, where installed),
            `transformers`, `vllm`, nor the URL of a `trl vllm-serve`.
    """
    generation = settings.generation
    cuda = torch.cuda.is_available()
    vllm = generation.startswith(("http://", "https://")) or generation == "vllm"
    if generation == "auto":
        vllm = cuda and importlib.util.find_spec("vllm") is not None
    elif not vllm and generation != "transformers":
        raise JobStopped(
            Exit.USAGE,
            f"--generation {generation}: must be auto, transformers, vllm or a server's URL",
        )
    served = generation if generation.startswith("http") else None
    return GRPOConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=settings.steps,
        # One group a backward pass; all prompts of a step are drawn and scored together.
        per_device_train_batch_size=settings.group_size,
        gradient_accumulation_steps=settings.prompts_per_step,
        num_generations=settings.group_size,
        max_completion_length=settings.max_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        seed=settings.seed,
        use_cpu=not cuda,
        bf16=cuda,
        gradient_checkpointing=cuda,
        dataloader_pin_memory=cuda,
        use_vllm=vllm,
        vllm_mode="colocate" if served is None else "server",
        vllm_server_base_url=served,
        logging_steps=1,
        save_steps=settings.save_every,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
    )


def build_trainer(
    policy: Path,
    prompts: Sequence[Row],
    reward: RewardFunction,
    config: GRPOConfig,
    settings: Settings,
    watch: Watch,
) -> GRPOTrainer:
    """The policy with a new adapter (`lora_rank` above 0), ready to train.

    Raises:
        JobStopped: (usage) no such policy, or one without a chat template.
    """
    dtype = torch.bfloat16 if torch.cuda.is_available() else cpu_dtype(torch.bfloat16)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(policy)
        model: Any = AutoModelForCausalLM.from_pretrained(policy, dtype=dtype)
    except (OSError, ValueError) as error:
        raise JobStopped(Exit.USAGE, f"--policy {policy}: {error}") from None
    if tokenizer.chat_template is None:
        raise JobStopped(Exit.USAGE, f"--policy {policy}: its tokenizer has no chat template")
    adapter = None
    if settings.lora_rank:
        adapter = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=2 * settings.lora_rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": row["messages"]} for row in prompts]),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)  # stdout is for the result
    return trainer


def last_checkpoint(out: Path) -> tuple[Path | None, int]:
    """The newest whole checkpoint and its step; (None, 0) without one.

    The trainer writes `trainer_state.json` last, so a checkpoint without it was cut by a kill: it
    is removed.
    """
    found: dict[int, Path] = {}
    for path in (out / "checkpoints").glob("checkpoint-*"):
        if (path / "trainer_state.json").exists():
            found[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    if not found:
        return None, 0
    step = max(found)
    return found[step], step
