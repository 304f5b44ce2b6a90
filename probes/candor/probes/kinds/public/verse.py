"""Public verse as pieces to ask about: prompts for `feedback.prompt`, never rows.

Nobody has commented on these texts, so there is no reply to label; a policy has to write the
comments and a judge to read them.

- `verse_lines`: github `google-research-datasets/poem-sentiment`, `data/*.tsv` (CC BY 4.0): id, one
  line of verse, label (-1 negative, 0 no impact, 1 positive, 2 mixed), tab-separated, no header.
- `sonnets`: github `dariusk/corpora`, `data/words/literature/shakespeare_sonnets.json` (CC0): an
  object with `sonnets`, each with its `lines`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from candor.probes.fitting.data import NonEmpty
from candor.probes.kinds.feedback import Piece
from candor.probes.kinds.public.source import Item, decoded, fault

SENTIMENTS = ("-1", "0", "1", "2")


class Sonnet(Item):
    lines: Annotated[list[NonEmpty], Field(min_length=1)]


class Sonnets(Item):
    sonnets: Annotated[list[Sonnet], Field(min_length=1)]


def verse_lines(path: Path, sentiments: tuple[str, ...] = SENTIMENTS) -> list[Piece]:
    """Lines of verse of these sentiments as pieces without comments.

    Raises:
        ValueError: a malformed line, as `file:line: field: reason`; or none of these sentiments.
    """
    texts = []
    for number, line in enumerate(decoded(path.read_bytes()).removesuffix("\n").split("\n"), 1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise ValueError(f"{path}:{number}: line: {len(fields)} fields between tabs, not 3")
        _, text, sentiment = (field.strip() for field in fields)
        if sentiment not in SENTIMENTS:
            raise ValueError(f"{path}:{number}: label: one of {', '.join(SENTIMENTS)} expected")
        if not text:
            raise ValueError(f"{path}:{number}: verse: empty")
        if sentiment in sentiments:
            texts.append(text)
    if not texts:
        raise ValueError(f"{path}: label: no line of verse with {', '.join(sentiments)}")
    return _pieces("verse", texts)


def sonnets(path: Path) -> list[Piece]:
    """Whole sonnets, one line of verse a line, as pieces without comments.

    Raises:
        ValueError: a file of another form, naming the field.
    """
    try:
        found = Sonnets.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path}: {fault(error)}") from None
    return _pieces("sonnet", ["\n".join(sonnet.lines) for sonnet in found.sonnets])


def _pieces(name: str, texts: list[str]) -> list[Piece]:
    return [
        Piece(f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}", text, (), (), ())
        for text in dict.fromkeys(texts)
    ]
