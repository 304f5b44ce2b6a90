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
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from candor.flags import UsageError
from candor.forward.precision import cpu_dtype
from candor.jobs.generator.groups import split_opening, stop_ids
from candor.jobs.rl.groups.trainer import GroupTrainer
from candor.jobs.rl.reward import RewardFunction
from candor.jobs.rl.settings import TrainingSettings
from candor.jobs.rl.watch import Watch
from candor.jobs.running.files import Row

PASS_TOKENS = 8192
"""Most response tokens of one backward pass on a CPU. A step that fits is one pass, so that each
prompt is computed once for all of its responses: TRL shuffles the responses of a step before it
cuts them into passes."""


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
    rows = settings.group_size * settings.prompts_per_step
    passes = settings.prompts_per_step
    if not cuda and rows * settings.max_tokens <= PASS_TOKENS:
        passes = 1
    stop = None
    if vllm and settings.stop is not None:
        stop = {"stop": [settings.stop], "include_stop_str_in_output": True}
    return GRPOConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=settings.steps,
        # All prompts of a step are sampled and scored together.
        per_device_train_batch_size=rows // passes,
        gradient_accumulation_steps=passes,
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
        generation_kwargs=stop,
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
    try:
        ends = stop_ids(tokenizer, settings.stop)
    except ValueError as error:
        raise UsageError(f"--stop {settings.stop}: {error}") from None
    check_openings(tokenizer, prompts)
    trainer = GroupTrainer(
        end_ids=ends,
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": row["messages"]} for row in prompts]),
        processing_class=tokenizer,
        peft_config=trained_part(model, settings),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)  # stdout is for the result
    return trainer


def trained_part(model: Any, settings: TrainingSettings) -> LoraConfig | None:
    """The adapter on the trained layers; without one, every other weight of `model` is frozen.

    Raises:
        UsageError: the policy has fewer layers.
    """
    depth = int(model.config.get_text_config().num_hidden_layers)
    top = depth if settings.train_layers is None else settings.train_layers
    if top > depth:
        raise UsageError(f"--train-layers {top}: the policy has {depth} layers")
    if top == depth:
        return adapter(settings.lora_rank, "all-linear", None) if settings.lora_rank else None
    layers = model.base_model.layers[-top:]
    if settings.lora_rank:
        linear = [
            module for module in layers[0].named_modules() if isinstance(module[1], nn.Linear)
        ]
        names = sorted({name.rpartition(".")[2] for name, _ in linear})
        return adapter(settings.lora_rank, names, list(range(depth - top, depth)))
    model.requires_grad_(False)
    layers.requires_grad_(True)
    return None


def adapter(rank: int, modules: str | list[str], layers: list[int] | None) -> LoraConfig:
    """LoRA on these linear modules; `layers` None: of every layer."""
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=modules,
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
    )


def check_openings(tokenizer: Any, prompts: Sequence[Row]) -> None:
    """Raises UsageError where responses have a beginning and the tokenizer forgets a space that its
    first new token begins with: "is" and "black" would be joined to "isblack"."""
    if not any(split_opening(row["messages"])[1] for row in prompts):
        return
    after = tokenizer("is black", add_special_tokens=False)["input_ids"]
    before = tokenizer("is", add_special_tokens=False)["input_ids"]
    if "is" + tokenizer.decode(after[len(before) :]) != "is black":
        raise UsageError(
            "--prompts: a prompt ends with the assistant's words, and the policy's tokenizer loses "
            "the space after them; leave the assistant's words out"
        )


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
