"""TRL's GRPOTrainer from the settings of a run, and where its checkpoints are.

TRL samples the responses: with vLLM in the same process (`colocate`), with a `trl vllm-serve` by
URL, or with transformers. Learning rate and penalty depend on the step alone, so a run that
continues from a checkpoint takes the steps that it would have taken.
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

from candor.flags import UsageError
from candor.forward.precision import cpu_dtype
from candor.jobs.rl.reward import RewardFunction
from candor.jobs.rl.settings import TrainingSettings
from candor.jobs.rl.watch import Watch
from candor.jobs.running.files import Row


def grpo_config(out: Path, settings: TrainingSettings) -> GRPOConfig:
    """The settings of a run as TRL's.

    Raises:
        UsageError: `generation` is neither `auto` (vLLM where there is a GPU and vLLM is
            installed), `transformers`, `vllm`, nor the URL of a `trl vllm-serve`.
    """
    generation = settings.generation
    cuda = torch.cuda.is_available()
    vllm = generation.startswith(("http://", "https://")) or generation == "vllm"
    if generation == "auto":
        vllm = cuda and importlib.util.find_spec("vllm") is not None
    elif not vllm and generation != "transformers":
        raise UsageError(
            f"--generation {generation}: must be auto, transformers, vllm or a server's URL"
        )
    served = generation if generation.startswith("http") else None
    return GRPOConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=settings.steps,
        # One group per backward pass; all prompts of a step are sampled and scored together.
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
    settings: TrainingSettings,
    watch: Watch,
) -> GRPOTrainer:
    """The policy, with a new adapter where `lora_rank` is above 0, ready to train.

    Raises:
        UsageError: the policy cannot be loaded, or has no chat template.
    """
    dtype = torch.bfloat16 if torch.cuda.is_available() else cpu_dtype(torch.bfloat16)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(policy)
        model: Any = AutoModelForCausalLM.from_pretrained(policy, dtype=dtype)
    except (OSError, ValueError) as error:
        raise UsageError(f"--policy {policy}: {error}") from None
    if tokenizer.chat_template is None:
        raise UsageError(f"--policy {policy}: its tokenizer has no chat template")
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
    """The newest complete checkpoint and its step; (None, 0) without a checkpoint.

    The trainer writes `trainer_state.json` last. A checkpoint without this file was cut short by a
    kill, and is removed.
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
