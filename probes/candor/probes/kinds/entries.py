"""Entries of the free-text kinds: what rows are built from. Read from this package, and checked.

Not here: rows. Each kind's module says what its entries hold and which reply is which label.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from candor.probes.fitting.data import NonEmpty

Wordings = Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
"""Replies that say the same in other words; a builder draws one."""


class Entry(BaseModel):
    """One group of rows in the making: `id` names the group within its kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    id: NonEmpty


AnyEntry = TypeVar("AnyEntry", bound=Entry)


def shipped_entries(file: str, of: type[AnyEntry]) -> list[AnyEntry]:
    """The entries of `data/{file}`, all written for this repository."""
    text = files("candor.probes.kinds").joinpath("data", file).read_text(encoding="utf-8")
    return TypeAdapter(list[of]).validate_json(text)  # type: ignore[valid-type]


def refuse_unusable(entries: Sequence[Entry], kind: str) -> None:
    """Raises ValueError where there is no entry, or where two share an id (and so a group)."""
    if not entries:
        raise ValueError(f"kind {kind!r}: no entries, so there is no row to build")
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        if entry.id in seen:
            raise ValueError(
                f"kind {kind!r}: entry {number} repeats the id {entry.id!r}: give each its own, "
                "the id names the group"
            )
        seen.add(entry.id)
