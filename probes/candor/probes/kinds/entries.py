"""Entries, from which the kinds' rows are built: read from this package, and checked.

Each kind's module says what its entries hold and which reply gets which label.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from candor.probes.fitting.data import NonEmpty

Wordings = Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
"""Replies with the same meaning in other words; a row gets one of them."""


class KindEntry(BaseModel):
    """The material of one group of rows; `id` names the group within its kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    id: NonEmpty


AnyEntry = TypeVar("AnyEntry", bound=KindEntry)


def shipped_entries(file: str, of: type[AnyEntry]) -> list[AnyEntry]:
    """The entries of `data/{file}`, which were all written for this repository."""
    text = files("candor.probes.kinds").joinpath("data", file).read_text(encoding="utf-8")
    return TypeAdapter(list[of]).validate_json(text)  # type: ignore[valid-type]


def refuse_unusable(entries: Sequence[KindEntry], kind: str) -> None:
    """Raises ValueError if there is no entry, or if two entries share an id (and so a group)."""
    if not entries:
        raise ValueError(f"kind {kind!r}: no entries, so there is no row to build")
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        if entry.id in seen:
            raise ValueError(
                f"kind {kind!r}: entry {number} repeats the id {entry.id!r}: give each entry an id "
                "of its own, which names the group"
            )
        seen.add(entry.id)
