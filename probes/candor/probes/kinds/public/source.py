"""Reads public files as checked items, and fetches them from the hub.

Every error is one line that names file, line and field. Files of the Hugging Face hub are fetched
by huggingface_hub's own client and kept in its cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from candor.probes.faults import first_fault
from candor.probes.jsonl import line_of
from candor.probes.sources.tables import objects


class PublicItem(BaseModel):
    """One line of a public file; other fields than those of the class are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)


AnyItem = TypeVar("AnyItem", bound=PublicItem)


def read_items(path: Path, of: type[AnyItem]) -> Iterator[tuple[str, AnyItem]]:
    """(place, item) for each object of a file of any kind (`candor.probes.sources.tables`).

    Raises:
        ValueError: an item is malformed (message `place: field: reason`), or there is no item.
    """
    empty = True
    for place, value in objects(path):
        empty = False
        try:
            yield place, of.model_validate_json(line_of(value))
        except ValidationError as error:
            raise ValueError(f"{place}: {first_fault(error, 'item')}") from None
    if empty:
        raise ValueError(f"{path}: the file holds no item")


def decoded(data: bytes) -> str:
    """Text of undeclared encoding: UTF-8 if the bytes are valid UTF-8, else Latin-1."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def fetch(repository: str, files: Sequence[str]) -> list[Path]:
    """Files of a data set on the hub, fetched or from the cache.

    Raises:
        ConnectionError: the hub does not answer, has no such file, or is switched off.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return [Path(hf_hub_download(repository, name, repo_type="dataset")) for name in files]
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConnectionError(
            f"hub: {repository}: {reason} (give a local file in place of 'hub')"
        ) from error
