"""Which of two comments is more positive: by a lexicon offline, or by a language model.

*vader*: VADER's compound score (Hutto & Gilbert, 2014; the `vaderSentiment` package) takes the
place of GPT-4 in the paper's evaluation (arXiv 2412.00967) and needs no network. It is a lexicon
with known weaknesses: an AUROC of about 0.71 on review sentences, and exact ties, which count as
half.

*llm*: any OpenAI-compatible chat server, at temperature 0. It is asked about both orders of a pair,
because judges favour a position (GPT-4's answer changed with the order in 15 to 44 % of the paper's
like pairs). Where the two answers name different comments, the pair is a tie. An answer that is not
one letter is a failed verdict, never a number.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from candor.client.generator import AsyncGeneratorClient
from candor.flags import UsageError
from candor.jobs.running.rows import RowFailed

NAME = "VADER 3.3.2 compound"

QUESTION = (
    "Two people commented on the same poem.\n\nComment A:\n{a}\n\nComment B:\n{b}\n\n"
    "Which of the two comments is more positive about the poem? "
    "Reply with a single letter, A or B, and nothing else."
)
MAX_TOKENS = 8
UNPARSABLE = "unparsable_verdict"

Letter = Literal["A", "B"]


@cache
def _analyzer() -> Any:
    """Raises UsageError when the package is not installed."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ModuleNotFoundError:
        raise UsageError(
            "the vader judge needs vaderSentiment: pip install 'candor-rewards[lab]' "
            "(or give --judge-url)"
        ) from None
    return SentimentIntensityAnalyzer()


def check_vader() -> None:
    """Raises UsageError before any work is done when VADER is not installed."""
    _analyzer()


def sentiment(text: str) -> float:
    """VADER's compound score of `text`, in [-1, 1]; 0 where no word is in the lexicon."""
    return float(_analyzer().polarity_scores(text)["compound"])


def wins(sentiments: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) against (K,) -> (M, K): 1 where the row's text is more positive, 0.5 at ties, else 0."""
    difference = np.subtract.outer(sentiments, reference)
    won: NDArray[np.float64] = (difference > 0) + 0.5 * (difference == 0)
    return won


def vader_verdict(comment: str, reference: str) -> float:
    """1 if `comment` is more positive than `reference`, 0.5 at a tie, else 0."""
    return float(wins(np.array([sentiment(comment)]), np.array([sentiment(reference)]))[0, 0])


async def llm_verdict(client: AsyncGeneratorClient, comment: str, reference: str) -> dict[str, Any]:
    """{"verdict": 1, 0.5 or 0, "answers": the letters with `comment` as A, then as B}.

    Raises:
        RowFailed: the judge's answer is not one letter (`unparsable_verdict`).
        ClientError: the judge's server failed.
    """
    answers = [
        await _ask(client, comment, reference),
        await _ask(client, reference, comment),
    ]
    won = (answers[0] == "A") + (answers[1] == "B")
    return {"verdict": won / 2, "answers": answers}


async def _ask(client: AsyncGeneratorClient, a: str, b: str) -> Letter:
    messages = [{"role": "user", "content": QUESTION.format(a=a, b=b)}]
    (reply,) = await client.complete(messages, n=1, temperature=0.0, max_tokens=MAX_TOKENS, seed=0)
    letter = parse_letter(reply.text)
    if letter is None:
        raise RowFailed(UNPARSABLE, f"the judge did not answer A or B but {reply.text[:80]!r}")
    return letter


def parse_letter(text: str) -> Letter | None:
    """The letter of an answer such as "A", "(B)", "**b**." or "Comment A"; None for any other."""
    found = re.fullmatch(r"[\W_]*(?:comment[\W_]+)?([ab])[\W_]*", text, flags=re.IGNORECASE)
    if found is None:
        return None
    return "A" if found[1] in "aA" else "B"
