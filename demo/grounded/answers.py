"""The generator's own answers to the training questions, judged.

Neither a head nor a probe that is fitted on composed replies alone carries over to a policy's
samples (docs/decisions.md). So both are also fitted on these answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from candor.forward.precision import cpu_dtype
from candor.jobs.generator.sample import sample
from candor.jobs.grounded.asking import question_row
from candor.jobs.running.files import Row
from candor.probes.kinds.grounded.judge import Verdict, judge
from demo.grounded.asked import SEEDS, Asked, asked, measured, taught

NUM_SAMPLES = 12
"""Answers per prompt; equal answers become one."""

MAX_TOKENS = 12
TEMPERATURE = 0.8
STOP = "."
"""An answer ends with its first sentence, or after `MAX_TOKENS`."""

NUM_DEV_SAMPLES = 16
"""Answers per prompt of the dev split."""

FIRST_SEED, FIRST_DEV_SEED = 9000, 19000


@dataclass(frozen=True)
class Answered:
    """A prompt's distinct answers and the exact judge's verdict on each."""

    asked: Asked
    answers: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def prompt(self) -> str:
        """The user's message."""
        question, stance, wording = self.asked
        return question.prompt(stance, wording)

    def with_verdict(self, verdict: Verdict) -> list[str]:
        """The answers that have it."""
        return [
            answer
            for answer, found in zip(self.answers, self.verdicts, strict=True)
            if found == verdict
        ]


def answered(language_model: Path) -> list[Answered]:
    """The prompts of `taught`, answered by the language model. A seed per prompt decides all."""
    prompts = list(taught(asked("train")))
    rows = [question_row(*each, SEEDS["train"]) for each in prompts]
    found = []
    for (question, stance, wording), texts in zip(
        prompts, _draw_all(language_model, rows, NUM_SAMPLES, FIRST_SEED), strict=True
    ):
        answers = tuple(dict.fromkeys(texts))
        verdicts = tuple(judge(text, question, stance) for text in answers)
        found.append(Answered((question, stance, wording), answers, verdicts))
    return found


def dev_rollouts(language_model: Path) -> list[Row]:
    """Rows as of `candor generate` on the prompts of the dev split: the candidates that the demo's
    probes are calibrated on."""
    rows = [question_row(*each, SEEDS["dev"]) for each in measured("dev")]
    drawn = _draw_all(language_model, rows, NUM_DEV_SAMPLES, FIRST_DEV_SEED)
    return [
        {**row, "responses": [{"text": text} for text in texts]}
        for row, texts in zip(rows, drawn, strict=True)
    ]


def _draw_all(
    language_model: Path, rows: Sequence[Row], n: int, first_seed: int
) -> list[list[str]]:
    """`n` answers per row, on all cores."""
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    model = AutoModelForCausalLM.from_pretrained(language_model, dtype=cpu_dtype(torch.bfloat16))
    with ThreadPoolExecutor(
        torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
    ) as threads:
        done = threads.map(
            lambda numbered: _draw(model, tokenizer, numbered[1], n, numbered[0]),
            enumerate(rows, first_seed),
        )
        return list(tqdm(done, desc="answers to questions", total=len(rows), unit="prompt"))


def _draw(model: Any, tokenizer: Any, row: Row, n: int, seed: int) -> list[str]:
    """Answers as `candor generate` draws them from `candor generator`."""
    opened = [*row["messages"], {"role": "assistant", "content": row["response_prefix"]}]
    ids = tokenizer.apply_chat_template(opened, continue_final_message=True, return_dict=False)
    drawn = sample(
        model,
        ids,
        n=n,
        max_tokens=MAX_TOKENS,
        temperature=TEMPERATURE,
        top_p=1.0,
        seed=seed,
        stop_ids=frozenset({int(tokenizer.eos_token_id)}),
        ended=lambda ids: STOP in tokenizer.decode(ids),
    )
    texts = [tokenizer.decode(list(one.token_ids), skip_special_tokens=True) for one in drawn]
    return [row["response_prefix"] + _first_sentence(text) for text in texts]


def _first_sentence(text: str) -> str:
    before, stop, _ = text.partition(STOP)
    return before + stop


MOST_OTHERS, MOST_TO_RIGHT_USERS = 3, 9
"""Answers of label 0 that a prompt gives to the probe's rows; all of label 1 are taken. There are
more where the user is right: agreeing with him looks most like flattery, and is none."""


def labelled(prompts: Sequence[Answered]) -> Iterator[Row]:
    """Probe rows: label 1 where the answer gives the wrong value that the user believes.

    An answer that names the user's wrong value without giving it ("either ... or ...") is neither,
    and is left out.
    """
    for one in prompts:
        question, stance, _ = one.asked
        left = MOST_TO_RIGHT_USERS if stance == "right" else MOST_OTHERS
        for answer, verdict in zip(one.answers, one.verdicts, strict=True):
            if verdict == "none" and stance == "wrong" and question.claim in answer:
                continue
            left -= verdict != "user"
            if verdict == "user" or left >= 0:
                yield {
                    "messages": [{"role": "user", "content": one.prompt}],
                    "response": answer,
                    "label": int(verdict == "user"),
                    "group": question.id,
                    "kind": f"grounded-{question.domain.id}",
                    "direction": stance,
                }
