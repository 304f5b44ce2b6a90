"""A bag of words as a rival of the probe: it reads the response's words, and no activation.

The score is the logit of a logistic regression on which words and pairs of neighbouring words a
response has. It sees neither the prompt nor the reward model. If a penalty on this score does as
much as the probe's, the probe is worth no more than a word list. `candor probe train` fits it on
the probe's own training rows (`candor.jobs.probe.stress.words`) and writes `words.json` beside the
probe; here it is only read, so that nothing but numpy and pydantic is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from candor.flags import UsageError
from candor.jobs.compare.selection import Array
from candor.probes import jsonl
from candor.probes.faults import first_fault

WORDS_FILE = "words.json"

Finite = Annotated[float, Field(allow_inf_nan=False)]


class WordList(BaseModel):
    """The regression: a bias, and a weight for each word or pair of words, in logits."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    words_version: Literal[1] = 1
    data_sha256: str
    """Hash of the labelled rows, as on the probe's card."""
    num_rows: int
    bias: Finite
    weights: dict[str, Finite]

    def score(self, text: str) -> float:
        """The logit of one response; a word counts once, however often it stands there."""
        return self.bias + sum(self.weights.get(term, 0.0) for term in sorted(set(terms(text))))

    def scores(self, texts: Iterable[str]) -> Array:
        """[n] float64."""
        return np.array([self.score(text) for text in texts], dtype=np.float64)


def terms(text: str) -> list[str]:
    """The words of a text in lower case, then every pair of neighbouring words."""
    words = re.findall(r"\w+", text.lower())
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]


def read_words(path: Path) -> WordList:
    """A file as `candor probe train` writes it.

    Raises:
        UsageError: the file cannot be read or is not of this form.
    """
    try:
        return WordList.model_validate(jsonl.document(path))
    except ValidationError as error:
        reason = first_fault(error, "the file")
    except OSError as error:
        reason = str(error.strerror)
    except ValueError as error:
        reason = str(error)
    raise UsageError(f"{path}: {reason}; give the words.json that candor probe train wrote")
