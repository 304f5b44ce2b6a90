"""Labelled rows for probe training: the fields of a row, reading files of rows, hashing rows.

A file has one object per line or per row of a table, for example

    {"group": "poem-7", "label": 1, "response": "I love it too!", "kind": "poem",
     "messages": [{"role": "user", "content": "I really like this poem. Comment on it: ..."}]}

A row's context and response are those of an item of `POST /v1/rewards`, in the same fields and by
the same rules, so a probe is fitted on the texts that it is served with: `messages`, perhaps with
`tools`, or `prompt`, a text that already has the chat template; `response` is a text, or an
assistant's message where it is more than text. A `prompt` without an assistant turn of the reward
model's template is refused, unless the row says `"templated": true`. Rows of one `group` (one poem,
one question, one author) all go to the same part of a split. Three more fields are optional:

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
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator

from candor.client.schema import Message, Objects, Reply, RewardItem, refuse_wrong_context
from candor.probes.faults import first_fault
from candor.probes.jsonl import line_of, parse
from candor.probes.sources.tables import objects

NonEmpty = Annotated[str, Field(min_length=1)]

OPTIONAL_FIELDS = ("direction", "span", "split", "templated", "tools")
"""Fields that enter the content's hash only where they are given."""


class Row(BaseModel):
    """One labelled response: 1 shows the trait, 0 does not."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    group: NonEmpty
    label: Annotated[int, Field(ge=0, le=1)]  # not Literal[0, 1]: pydantic takes true for 1 there
    response: Reply
    messages: Annotated[list[Message] | None, FailFast(), Field(min_length=1)] = None
    tools: Objects = None
    prompt: str | None = None
    templated: bool | None = None
    kind: str = ""
    direction: str | None = None
    span: tuple[Annotated[int, Field(ge=0)], int] | None = None
    split: Literal["train", "validation", "test"] | None = None

    @model_validator(mode="after")
    def as_an_item(self) -> Row:
        """Refuses what the server would refuse in an item, in its words."""
        if not self.response:
            raise ValueError("'response' is empty; there is nothing to read")
        refuse_wrong_context(self.item)
        return self

    @model_validator(mode="after")
    def span_inside(self) -> Row:
        if self.span is None:
            return self
        if not isinstance(self.response, str):
            raise ValueError("'span' counts characters, so it needs a 'response' that is a text")
        if not self.span[0] < self.span[1] <= len(self.response):
            raise ValueError(
                f"'span' is [start, end) in characters of the response, which has "
                f"{len(self.response)}; got {list(self.span)}"
            )
        return self

    @property
    def item(self) -> RewardItem:
        """The context and the response, as the server takes them."""
        return RewardItem.model_construct(
            messages=self.messages,
            tools=self.tools,
            prompt=self.prompt,
            templated=self.templated,
            responses=[self.response],
        )

    @property
    def context(self) -> str:
        """The context as one string: equal exactly where two rows share their context."""
        if self.messages is None:
            return f"prompt {self.prompt}"
        return json.dumps([[message.as_sent() for message in self.messages], self.tools or []])

    def content(self) -> dict[str, Any]:
        """The fields that say something, for the hash. Messages have only theirs, too."""
        absent = {name for name in OPTIONAL_FIELDS if getattr(self, name) is None}
        found = self.model_dump(exclude={*absent, "messages", "response"})
        found["messages"] = self.messages and [message.as_sent() for message in self.messages]
        response = self.response
        found["response"] = response if isinstance(response, str) else response.as_sent()
        return found


def load_rows(source: Path) -> list[Row]:
    """The rows of a file of any kind, or of a data set on the Hub (`candor.probes.sources.tables`).

    Raises:
        ValueError: a line is not a row (message `file:line: field: reason`), or there is no line.
    """
    return [row for _, row in _placed(source)]


def load_files(sources: Sequence[Path]) -> tuple[list[Row], list[str]]:
    """The rows of several files, file after file, and the place of each row as `file:line`.

    Raises:
        ValueError: there is no file, or as `load_rows`.
    """
    if not sources:
        raise ValueError("no data file was given")
    found = [(row, place) for source in sources for place, row in _placed(source)]
    return [row for row, _ in found], [place for _, place in found]


def _placed(source: Path) -> list[tuple[str, Row]]:
    """The rows with their places."""
    rows = [(place, labelled_row(place, value)) for place, value in objects(source)]
    if not rows:
        raise ValueError(f"{source}: no rows")
    return rows


def labelled_row(place: str, value: dict[str, Any]) -> Row:
    """One object of a file as a row.

    Raises:
        ValueError: it is none (message `place: field: reason`).
    """
    if "label" not in value:
        raise ValueError(
            f"{place}: label: is missing; a labelled row has label 1 where the response shows the "
            "trait and 0 where it does not (docs/formats.md#labelled-rows)"
        )
    try:
        return Row.model_validate_json(line_of({**value, **_of_cells(value)}))
    except ValidationError as error:
        raise ValueError(f"{place}: {first_fault(error, 'row')}") from None


def _of_cells(value: dict[str, Any]) -> dict[str, Any]:
    """Fields that a table of texts holds as texts: the label, and lists in JSON."""
    found: dict[str, Any] = {}
    if value["label"] in ("0", "1"):
        found["label"] = int(value["label"])
    for name in ("messages", "tools", "span"):
        if isinstance(text := value.get(name), str):
            with suppress(ValueError):
                found[name] = parse(text.encode())
    return found


def data_sha256(rows: Sequence[Row]) -> str:
    """Hash of the rows' content in their order; spacing and key order in the file do not matter.

    Optional fields enter the hash only where they are given, so that rows without them keep the
    hash they had before these fields existed.
    """
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps(row.content(), sort_keys=True).encode() + b"\n")
    return total.hexdigest()
