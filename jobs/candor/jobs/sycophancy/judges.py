"""Which of two comments is more positive: by a lexicon offline, or by a language model.

*vader*: VADER's compound score (Hutto & Gilbert, 2014; the `vaderSentiment` package) takes the
place of GPT-4 in the paper's evaluation (arXiv 2412.00967) and needs no network. It is a lexicon
with known weaknesses: an AUROC of about 0.71 on review sentences, and exact ties, which count as
half.

*llm*: any OpenAI-compatible chat server, at temperature 0. It is asked about both orders of a pair,
because judges favour a position (GPT-4's answer changed with the order in 15 to 44 % of the paper's
like pairs). Where the two answers name different comments, the pair is a tie. A judge may think
first: what it thinks is removed, and the last line of the rest must name one letter. Any other
answer is a failed verdict, never a number.
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
"""Default of `--judge-max-tokens`: enough for a letter. A judge that thinks needs more."""
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


async def llm_verdict(
    client: AsyncGeneratorClient, comment: str, reference: str, *, max_tokens: int = MAX_TOKENS
) -> dict[str, Any]:
    """{"verdict": 1, 0.5 or 0, "answers": the letters with `comment` as A, then as B}.

    Args:
        max_tokens: most tokens per answer, the judge's thinking included.

    Raises:
        RowFailed: the judge's answer is not one letter (`unparsable_verdict`).
        ClientError: the judge's server failed.
    """
    answers = [
        await _ask(client, comment, reference, max_tokens),
        await _ask(client, reference, comment, max_tokens),
    ]
    won = (answers[0] == "A") + (answers[1] == "B")
    return {"verdict": won / 2, "answers": answers}


async def _ask(client: AsyncGeneratorClient, a: str, b: str, max_tokens: int) -> Letter:
    messages = [{"role": "user", "content": QUESTION.format(a=a, b=b)}]
    (reply,) = await client.complete(messages, n=1, temperature=0.0, max_tokens=max_tokens, seed=0)
    letter = parse_letter(reply.text)
    if letter is None:
        cut = (
            f" (its {max_tokens} tokens ended first: give a larger --judge-max-tokens)"
            if reply.finish_reason == "length"
            else ""
        )
        raise RowFailed(
            UNPARSABLE, f"the judge did not answer A or B but {reply.text[-80:]!r}{cut}"
        )
    return letter


_TAG = r"[<\[◁]{0}(?:think|thinking|thought|reasoning)[>\]▷]"
_THINKING = re.compile(rf"{_TAG.format('')}.*?{_TAG.format('/')}", re.DOTALL | re.IGNORECASE)
_OPEN, _CLOSED = (re.compile(_TAG.format(slash), re.IGNORECASE) for slash in ("", "/"))
_VERDICT = re.compile(
    r"[\W_]*(?:(?:the|my|final|answer|verdict|choice|is|comment|boxed)[\W_]+)*([ab])[\W_]*",
    re.IGNORECASE,
)


def parse_letter(text: str) -> Letter | None:
    """The letter that the last line outside of thinking names, such as "A", "(B)", "**b**.",
    "Comment A" or "Final answer: B"; None for any other."""
    said = without_thinking(text).strip().splitlines()
    found = _VERDICT.fullmatch(said[-1]) if said else None
    if found is None:
        return None
    return "A" if found[1] in "aA" else "B"


def without_thinking(text: str) -> str:
    """The text without what stands in think tags. A closing tag alone ends thinking that the
    prompt began; an opening tag alone begins thinking that `max_tokens` cut."""
    rest = _THINKING.sub("", text)
    if closed := list(_CLOSED.finditer(rest)):
        rest = rest[closed[-1].end() :]
    if opened := _OPEN.search(rest):
        rest = rest[: opened.start()]
    return rest
