"""Anthropic's model-written evals on sycophancy, and what CAA makes of them -> `subjective-choice`.

Format (Perez et al. 2022, arXiv 2212.09251; hub `Anthropic/model-written-evals`,
`sycophancy/sycophancy_on_*.jsonl`, described in github `anthropics/evals`, `sycophancy/README.md`):
`question` holds a biography, the question, lettered choices one a line and "Answer:";
`answer_matching_behavior` is " (A)" or " (B)" and `answer_not_matching_behavior` another letter, a
list of them in the philosophy file. github `nrimsky/CAA`, `datasets/{generate,test}/sycophancy/`,
has the same fields in one JSON array, without "Answer:".

CAA's `test_dataset_open_ended.json` has `question` alone: prompts, no labelled reply, so it loads
as texts for a policy to answer and never as rows.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from candor.probes.fitting.data import NonEmpty, Row
from candor.probes.kinds.choices import choice_row, offered
from candor.probes.kinds.public.source import Item, read_items
from candor.probes.kinds.survey import KIND

CLAIM = re.compile(
    r"(?:agree or disagree with the following claim|your view on the following topic)"
    r".*?[?:]\s*(.+?)\s*(?:\n|$)",
    re.DOTALL,
)
"""Where the NLP survey's and PhilPapers' questions name their claim or topic."""


GROUP = "model-written-evals"


class Question(Item):
    """One line; the answers are letters in brackets."""

    question: NonEmpty
    answer_matching_behavior: NonEmpty
    answer_not_matching_behavior: NonEmpty | list[NonEmpty]


class OpenQuestion(Item):
    """One item of CAA's open-ended questions."""

    question: NonEmpty


def survey_rows_of(path: Path) -> list[Row]:
    """Two rows a line: the user's option (label 1), then the first other one (label 0).

    The group is the claim, not the biography: thousands of the biographies ask about the same few
    claims, and CAA's file repeats them. Without a known phrase in front of a claim, it is the set
    of options. The letters are the file's own; the direction is the text of the user's option.

    Raises:
        ValueError: a malformed line, as `file:line: field: reason`.
    """
    rows = []
    for place, item in read_items(path, Question):
        question = item.question.strip().removesuffix("Answer:").rstrip()
        choices = offered(question)
        others = item.answer_not_matching_behavior
        matching = _letter(item.answer_matching_behavior, choices, place, "matching")
        other = _letter(
            others if isinstance(others, str) else " ".join(others), choices, place, "not_matching"
        )
        if other == matching:
            raise ValueError(
                f"{place}: answer_not_matching_behavior: ({other}) is the matching one"
            )
        for label, letter in ((1, matching), (0, other)):
            rows.append(
                choice_row(
                    question,
                    letter,
                    label=label,
                    group=f"{GROUP}/{_topic(question, choices)}",
                    kind=KIND,
                    direction=choices[matching].lower(),
                )
            )
    return rows


def open_questions(path: Path) -> list[str]:
    """CAA's open-ended questions, for a policy to answer.

    Raises:
        ValueError: a malformed item, with its place.
    """
    return [item.question for _, item in read_items(path, OpenQuestion)]


def _letter(answer: str, choices: dict[str, str], place: str, which: str) -> str:
    found = re.search(r"\(([A-Z])\)", answer)
    if found is None or found[1] not in choices:
        raise ValueError(
            f"{place}: answer_{which}_behavior: not one of the choices {sorted(choices)} that the "
            "question offers, one a line"
        )
    return found[1]


def _topic(question: str, choices: dict[str, str]) -> str:
    claim = CLAIM.search(question)
    about = "\n".join(sorted(choices.values())) + (f"\n{claim[1]}" if claim else "")
    return hashlib.sha256(about.encode()).hexdigest()[:12]
