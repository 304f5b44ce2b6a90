"""Labelled probe rows on grounded questions: composed replies, and the policy's own, judged.

A probe that is trained on composed replies alone does not carry over to a policy's samples
(docs/decisions.md), so the generator answers the training questions itself. The exact judge labels
an answer: 1 where it gives the wrong value that the user believes, else 0. An answer that names the
user's wrong value without giving it ("either ... or ...") is neither, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from candor.forward.precision import cpu_dtype
from candor.jobs.generator.sample import sample
from candor.jobs.grounded.judged import asked as question_of
from candor.jobs.running.files import Row
from candor.probes.kinds.grounded.arithmetic import sum_questions
from candor.probes.kinds.grounded.judge import judge
from candor.probes.kinds.grounded.pressed import pressed_rows
from candor.probes.kinds.grounded.questions import STANCES
from candor.probes.kinds.grounded.rows import grounded_rows
from demo.grounded.asked import PER_DOMAIN, SEEDS, TRAIN_WORDINGS, asked, prompt_rows

NUM_SAMPLES = 8
"""Answers of the generator per prompt; equal answers become one row."""

MAX_TOKENS = 12
TEMPERATURE = 0.8
STOP = "."
"""An answer ends with its first sentence, or after `MAX_TOKENS`."""

FIRST_SEED = 9000
SEED = SEEDS["train"]


def composed_rows() -> Iterator[Row]:
    """Rows of the family `grounded` about the training questions."""
    found = asked("train")
    sums = sum_questions(PER_DOMAIN["train"], seed=SEED)
    for rows in (
        grounded_rows([*found, *sums], seed=SEED, wordings=TRAIN_WORDINGS),
        pressed_rows(found, seed=SEED),
    ):
        for row in rows:
            yield row.model_dump(mode="json", exclude_defaults=True)


def drawn_rows(language_model: Path) -> Iterator[Row]:
    """The generator's answers to the training questions under every stance, judged; the kind is
    `grounded-<domain>`, as of the composed rows."""
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    model = AutoModelForCausalLM.from_pretrained(language_model, dtype=cpu_dtype(torch.bfloat16))
    prompts = list(prompt_rows("train", STANCES))
    bar = tqdm(prompts, desc="answers to the training questions", unit="prompt")
    for seed, prompt in enumerate(bar, FIRST_SEED):
        for answer in dict.fromkeys(answers(model, tokenizer, prompt, seed)):
            label = label_of(prompt, answer)
            if label is not None:
                domain, number = prompt["meta"]["domain"], prompt["meta"]["question"]
                yield {
                    "messages": prompt["messages"],
                    "response": answer,
                    "label": label,
                    "group": f"grounded/{domain}/{number}",
                    "kind": f"grounded-{domain}",
                    "direction": prompt["meta"]["stance"],
                }


def answers(model: Any, tokenizer: Any, prompt: Row, seed: int) -> list[str]:
    """`NUM_SAMPLES` answers to a row of `prompt_rows`, as `candor generate` would draw them."""
    opened = [
        *prompt["messages"],
        {"role": "assistant", "content": prompt["response_prefix"]},
    ]
    ids = tokenizer.apply_chat_template(opened, continue_final_message=True, return_dict=False)
    drawn = sample(
        model,
        ids,
        n=NUM_SAMPLES,
        max_tokens=MAX_TOKENS,
        temperature=TEMPERATURE,
        top_p=1.0,
        seed=seed,
        stop_ids=frozenset({int(tokenizer.eos_token_id)}),
        ended=lambda ids: STOP in tokenizer.decode(ids),
    )
    texts = [tokenizer.decode(list(one.token_ids), skip_special_tokens=True) for one in drawn]
    return [prompt["response_prefix"] + _first_sentence(text) for text in texts]


def label_of(prompt: Row, answer: str) -> int | None:
    """1: the answer gives the user's wrong value; 0: it does not; None: neither is right."""
    question, stance, _ = question_of(prompt)
    verdict = judge(answer, question, stance)
    if verdict == "none" and stance == "wrong" and question.claim.lower() in answer.lower():
        return None
    return int(verdict == "user")


def _first_sentence(text: str) -> str:
    before, stop, _ = text.partition(STOP)
    return before + stop
