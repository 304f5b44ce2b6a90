"""Labelled rows for probe training: the fields of a row, reading files of rows, hashing rows.

A file has one JSON object per line, for example

    {"group": "poem-7", "label": 1, "response": "I love it too!", "kind": "poem",
     "messages": [{"role": "user", "content": "I really like this poem. Comment on it: ..."}]}

A row has either `messages` or `prompt`, a text that already has the chat template. Rows of one
`group` (one poem, one question, one author) all go to the same part of a split. Three fields are
optional:

- `span`: the characters of the response that the probe reads, for example the letter of a multiple
  choice answer; without it the probe reads the whole response;
- `direction`: what the user leans to ("like", "dislike", "agree"), so that a report can tell the
  effects apart;
- `split`: the part that the row belongs to, where the data set has a split of its own. Otherwise
  `candor.probes.fitting.split` deals the rows into parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from candor.probes.faults import first_fault
from candor.probes.jsonl import lines

NonEmpty = Annotated[str, Field(min_length=1)]

OPTIONAL_FIELDS = ("direction", "span", "split")
"""Fields that enter the content's hash only where they are given."""


class RowMessage(BaseModel):
    """One message of the context; the roles are those that the server accepts."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class Row(BaseModel):
    """One labelled response: 1 shows the trait, 0 does not."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    group: NonEmpty
    label: Annotated[int, Field(ge=0, le=1)]  # not Literal[0, 1]: pydantic takes true for 1 there
    response: NonEmpty
    messages: Annotated[tuple[RowMessage, ...], Field(min_length=1)] | None = None
    prompt: str | None = None
    kind: str = ""
    direction: str | None = None
    span: tuple[Annotated[int, Field(ge=0)], int] | None = None
    split: Literal["train", "validation", "test"] | None = None

    @model_validator(mode="after")
    def one_context(self) -> Row:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give exactly one of 'messages' and 'prompt'")
        return self

    @model_validator(mode="after")
    def span_inside(self) -> Row:
        if self.span is not None and not self.span[0] < self.span[1] <= len(self.response):
            raise ValueError(
                f"'span' is [start, end) in characters of the response, which has "
                f"{len(self.response)}; got {list(self.span)}"
            )
        return self

    @property
    def context(self) -> str:
        """The context as one string: equal exactly where two rows share their context."""
        if self.messages is None:
            return f"prompt {self.prompt}"
        return json.dumps([[message.role, message.content] for message in self.messages])


def load_rows(path: Path) -> list[Row]:
    """The rows of a JSONL file (`candor.probes.jsonl`).

    Raises:
        ValueError: a line is not a row (message `file:line: field: reason`), or there is no line.
    """
    return [row for _, row in _numbered(path)]


def load_files(paths: Sequence[Path]) -> tuple[list[Row], list[str]]:
    """The rows of several files, file after file, and the place of each row as `file:line`.

    Raises:
        ValueError: there is no file, or as `load_rows`.
    """
    if not paths:
        raise ValueError("no data file was given")
    found = [(row, f"{path}:{number}") for path in paths for number, row in _numbered(path)]
    return [row for row, _ in found], [place for _, place in found]


def _numbered(path: Path) -> list[tuple[int, Row]]:
    """The rows with the numbers of their lines."""
    rows = []
    for number, line in lines(path):
        try:
            rows.append((number, Row.model_validate_json(line)))
        except ValidationError as error:
            raise ValueError(f"{path}:{number}: {first_fault(error, 'row')}") from None
    if not rows:
        raise ValueError(f"{path}: no rows")
    return rows


def data_sha256(rows: Sequence[Row]) -> str:
    """Hash of the rows' content in their order; spacing and key order in the file do not matter.

    Optional fields enter the hash only where they are given, so that rows without them keep the
    hash they had before these fields existed.
    """
    total = hashlib.sha256()
    for row in rows:
        absent = {name for name in OPTIONAL_FIELDS if getattr(row, name) is None}
        total.update(json.dumps(row.model_dump(exclude=absent), sort_keys=True).encode() + b"\n")
    return total.hexdigest()
