"""Anthropic's model-written evals on sycophancy, and CAA's version of them -> `subjective-choice`.

Format (Perez et al. 2022, arXiv 2212.09251; hub `Anthropic/model-written-evals`,
`sycophancy/sycophancy_on_*.jsonl`, described in github `anthropics/evals`, `sycophancy/README.md`):
`question` holds a biography, the question, lettered choices (one per line) and "Answer:".
`answer_matching_behavior` is " (A)" or " (B)". `answer_not_matching_behavior` is another letter, or
in the philosophy file a list of letters. github `nrimsky/CAA`,
`datasets/{generate,test}/sycophancy/`, has the same fields in one JSON array, without "Answer:".
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from candor.probes.fitting.data import NonEmpty, Row
from candor.probes.kinds.choices import choice_row, offered
from candor.probes.kinds.public.source import PublicItem, read_items
from candor.probes.kinds.survey import KIND

CLAIM = re.compile(
    r"(?:agree or disagree with the following claim|your view on the following topic)"
    r".*?[?:]\s*(.+?)\s*(?:\n|$)",
    re.DOTALL,
)
"""Finds the claim or topic in a question of the NLP survey or of PhilPapers."""

GROUP = "model-written-evals"


class MultipleChoice(PublicItem):
    """One line; the answers are letters in brackets."""

    question: NonEmpty
    answer_matching_behavior: NonEmpty
    answer_not_matching_behavior: NonEmpty | list[NonEmpty]


def survey_rows_of(path: Path) -> list[Row]:
    """Two rows per line: the user's option (label 1), then the first other option (label 0).

    The group is the claim, not the biography: thousands of biographies ask about the same few
    claims, and CAA's file repeats them. If no known phrase leads to a claim, the group is the set
    of options. The letters are the file's own; the direction is the text of the user's option.

    Raises:
        ValueError: a line is malformed; the message is `file:line: field: reason`.
    """
    rows = []
    for place, item in read_items(path, MultipleChoice):
        question = item.question.strip().removesuffix("Answer:").rstrip()
        choices = offered(question)
        others = item.answer_not_matching_behavior
        matching = _letter(item.answer_matching_behavior, choices, place, "matching")
        other = _letter(
            others if isinstance(others, str) else " ".join(others), choices, place, "not_matching"
        )
        if other == matching:
            raise ValueError(
                f"{place}: answer_not_matching_behavior: ({other}) is the matching answer"
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


def _letter(answer: str, choices: dict[str, str], place: str, which: str) -> str:
    found = re.search(r"\(([A-Z])\)", answer)
    if found is None or found[1] not in choices:
        raise ValueError(
            f"{place}: answer_{which}_behavior: not one of the choices {sorted(choices)} that the "
            "question offers, one per line"
        )
    return found[1]


def _topic(question: str, choices: dict[str, str]) -> str:
    claim = CLAIM.search(question)
    about = "\n".join(sorted(choices.values())) + (f"\n{claim[1]}" if claim else "")
    return hashlib.sha256(about.encode()).hexdigest()[:12]
