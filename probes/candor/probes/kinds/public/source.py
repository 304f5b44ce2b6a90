"""Reads public files as checked items, and fetches them from the hub.

Every error is one line that names file, line and field. Files of the Hugging Face hub are fetched
by huggingface_hub's own client and kept in its cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from candor.probes.faults import first_fault


class PublicItem(BaseModel):
    """One line of a public file; other fields than those of the class are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)


AnyItem = TypeVar("AnyItem", bound=PublicItem)


def read_items(path: Path, of: type[AnyItem]) -> Iterator[tuple[str, AnyItem]]:
    """(place, item) for each item of a JSONL file, or of a JSON file with one array of objects.

    The place is `file:line` in JSONL and `file: item 3` in an array; blank lines are skipped.

    Raises:
        ValueError: an item is malformed (message `place: field: reason`), or there is no item.
    """
    empty = True
    for place, raw in _raw_items(path):
        empty = False
        try:
            yield place, of.model_validate_json(raw)
        except ValidationError as error:
            raise ValueError(f"{place}: {first_fault(error, 'item')}") from None
    if empty:
        raise ValueError(f"{path}: the file holds no item")


def _raw_items(path: Path) -> Iterator[tuple[str, str]]:
    text = decoded(path.read_bytes())
    if not text.lstrip().startswith("["):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}:{number}", line
        return
    try:
        items = TypeAdapter(list[dict[str, Any]]).validate_python(from_json(text))
    except ValidationError as error:
        raise ValueError(f"{path}: {first_fault(error, 'item')}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    for number, item in enumerate(items, start=1):
        yield f"{path}: item {number}", TypeAdapter(dict[str, Any]).dump_json(item).decode()


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
