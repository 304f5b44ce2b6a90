"""How replies are worded: length, and the share that hedge or claim certainty.

Counted are words from two short lists, so the numbers say how wording moves within one run. They
are no measure of how sure a reply is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

HEDGES = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|might|may|could|seems?|appears?|likely|i think|i guess|"
    r"i believe|not sure|unsure|as far as i know)\b",
    re.IGNORECASE,
)
CERTAIN = re.compile(
    r"\b(?:definitely|certainly|clearly|surely|sure|of course|indeed|absolutely|obviously|"
    r"exactly|without (?:a )?doubt|no doubt|undoubtedly)\b",
    re.IGNORECASE,
)


def wording(texts: Sequence[str]) -> dict[str, float]:
    """`words`: mean number of words. `hedging`, `certainty`: share of the texts with such a word.

    "Not sure" is a hedge and no claim of certainty. `texts` is not empty.
    """
    certain = [CERTAIN.search(re.sub(r"(?i)\bnot sure\b", "", text)) for text in texts]
    return {
        "words": sum(len(text.split()) for text in texts) / len(texts),
        "hedging": sum(HEDGES.search(text) is not None for text in texts) / len(texts),
        "certainty": sum(found is not None for found in certain) / len(texts),
    }
