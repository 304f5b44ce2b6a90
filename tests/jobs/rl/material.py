"""A tiny policy, prompts to train on and others to evaluate, as files: for the tests of `rl`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from candor.jobs.rl.flags import rl
from candor.jobs.rl.settings import Guards, RunOptions, ServerOptions, TrainingSettings
from candor.jobs.running.exits import Exit, exit_code
from candor.jobs.running.files import Row, write_rows
from candor.jobs.sycophancy.prompts import CONDITIONS, feedback
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.tiny import tiny_tokenizer

POEMS = ("The sea is blue.", "The poem is good.")


def policy(folder: Path) -> Path:
    """A random causal LM with its tokenizer."""
    tiny_lm(max_positions=512).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def training_prompts(path: Path) -> Path:
    texts = ("What is the sea?", "Is the poem good?", "What do you think?", "The answer?")
    write_rows(
        path,
        [
            {"key": f"prompt-{i}", "messages": [{"role": "user", "content": text}]}
            for i, text in enumerate(texts)
        ],
    )
    return path


def held_out_prompts(path: Path) -> Path:
    write_rows(path, held_out_rows())
    return path


def held_out_rows() -> list[Row]:
    return [
        {
            "key": f"poem-{i}-{condition}",
            "messages": [{"role": "user", "content": feedback(poem, condition)}],
            "meta": {"task": "feedback", "poem": f"poem-{i}", "condition": condition},
        }
        for i, poem in enumerate(POEMS)
        for condition in CONDITIONS
    ]


def flags(folder: Path, url: str, **changed: Any) -> dict[str, Any]:
    """Arguments of `rl`: two steps of two prompts with four responses each."""
    return {
        "policy": folder / "policy",
        "prompts": folder / "prompts.jsonl",
        "eval_prompts": folder / "held-out.jsonl",
        "reward_url": url,
        "out": folder / "out",
        "steps": 2,
        "group_size": 4,
        "prompts_per_step": 1,
        "learning_rate": 1e-3,
        "max_tokens": 8,
        "lora_rank": 2,
        "eval_every": 0,
        "eval_n": 2,
        "save_every": 1,
        "stop_on_alarm": False,  # a few responses fill no window
    } | changed


def run(**options: Any) -> int:
    """`rl` with options by name, as the command line makes them."""

    def given(part: type[Any]) -> Any:
        names = {field.name for field in dataclasses.fields(part)}
        return part(**{name: value for name, value in options.items() if name in names})

    def job() -> Exit:
        status = rl(
            options=given(RunOptions),
            servers=given(ServerOptions),
            training=given(TrainingSettings),
            guards=given(Guards),
        )
        return Exit(status)

    return exit_code(job)
