"""Labelled rows for probe training: what a line holds, reading files of them, hashing them.

One JSON object a line, for example

    {"group": "poem-7", "label": 1, "response": "I love it too!", "kind": "poem",
     "messages": [{"role": "user", "content": "I really like this poem. Comment on it: ..."}]}

with `prompt` (text that has the chat template already) in place of `messages` where there is none.
The group is what must not straddle a split: rows of one poem, one question, one author. Three
fields are optional: `span`, the characters of the response that the probe reads (the letter of a
multiple choice answer; all of it where there is none); `direction`, what the user leans to ("like",
"dislike", "agree"), so that effects can be told apart; and `split`, the part a row belongs to where
the data brings its own. Not here: dealing the rows into parts (`candor.probes.fitting.split`), and
tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

NonEmpty = Annotated[str, Field(min_length=1)]

OPTIONAL = ("direction", "span", "split")
"""Fields that count in the content's hash only where they are given."""


class Turn(BaseModel):
    """One turn of the context; the roles are those the server takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class Row(BaseModel):
    """One labelled response: 1 shows the trait, 0 does not."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    group: NonEmpty
    label: Annotated[int, Field(ge=0, le=1)]  # not Literal[0, 1]: pydantic takes true for 1 there
    response: NonEmpty
    messages: Annotated[tuple[Turn, ...], Field(min_length=1)] | None = None
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
        return json.dumps([[turn.role, turn.content] for turn in self.messages])


def load_rows(path: Path) -> list[Row]:
    """Reads a JSONL file; row i is line i + 1.

    Raises:
        ValueError: a line that is not a row, as `file:line: field: reason`; or no line at all.
    """
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(Row.model_validate_json(line))
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                field = ".".join(str(part) for part in first["loc"]) or "row"
                raise ValueError(f"{path}:{number}: {field}: {first['msg']}") from None
    if not rows:
        raise ValueError(f"{path}: no rows")
    return rows


def load_files(paths: Sequence[Path]) -> tuple[list[Row], list[str]]:
    """The rows of several files, one after the other, and where each stands, as `file:line`.

    Raises:
        ValueError: no file, or as `load_rows`.
    """
    if not paths:
        raise ValueError("no data file was given")
    rows, places = [], []
    for path in paths:
        found = load_rows(path)
        rows += found
        places += [f"{path}:{number}" for number in range(1, len(found) + 1)]
    return rows, places


def data_sha256(rows: Sequence[Row]) -> str:
    """Hash of the rows' content in their order; spacing and key order in the file do not count.

    The optional fields count only where they are given, so that rows without them keep the hash
    they had before these fields existed.
    """
    total = hashlib.sha256()
    for row in rows:
        absent = {name for name in OPTIONAL if getattr(row, name) is None}
        total.update(json.dumps(row.model_dump(exclude=absent), sort_keys=True).encode() + b"\n")
    return total.hexdigest()
