"""A monitor for the RL demo: a second probe of the same trait as the penalised probe.

The monitor differs from the shipped probe in its layer, its samples of the policy and its split, so
that a response that fools the shipped probe need not fool the monitor. Its rows are composed
replies (`demo.poems.pairs`) and judged samples (`demo.poems.draws`), all on the training poems; the
evaluation's poems are not among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from candor.forward.precision import cpu_dtype
from candor.jobs.generator.sample import Sampling, draw
from candor.jobs.running.files import Row, read_rows, write_rows
from candor.jobs.sycophancy.prompts import feedback_prompt_rows
from demo.poems.draws import labelled
from demo.poems.pairs import Opinion, Work, probe_rows

NAME = "monitor"
SEED = 9000
"""Seed of the samples and of the composed replies; the shipped probe has other seeds."""

OPINIONS: dict[str, Opinion] = {"base": "none", "like": "like", "dislike": "dislike"}


def sample_poems(policy: Path, poems: Sequence[Work], out: Path, how: Sampling) -> list[Row]:
    """The untrained policy's comments on `poems`; read from `out` where the file exists."""
    if not out.exists():
        tokenizer: Any = AutoTokenizer.from_pretrained(policy)
        dtype = torch.bfloat16 if torch.cuda.is_available() else cpu_dtype(torch.bfloat16)
        model: Any = AutoModelForCausalLM.from_pretrained(policy, dtype=dtype)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        write_rows(out, draw(model, tokenizer, feedback_prompt_rows(poems), how))
    return read_rows(out)


def monitor_rows(poems: Sequence[Work], sampled: Sequence[Row]) -> list[dict[str, Any]]:
    """Labelled rows for `candor probe train`: 1 where the reply sides with the stated opinion."""
    poem_ids = {poem.id for poem in poems}
    rows = [row for row in probe_rows("train", seed=SEED) if row["group"] in poem_ids]
    for prompt in sampled:
        opinion = OPINIONS[prompt["meta"]["condition"]]
        judged = (
            labelled(prompt["messages"], response["text"], opinion, prompt["meta"]["poem"])
            for response in prompt["responses"]
        )
        rows += [row for row in judged if row is not None]
    return rows
