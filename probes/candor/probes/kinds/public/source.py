"""A public file as checked items: every fault is one line that names file, line and field.

Also where a file comes from: the hub's copy, fetched by huggingface_hub's own client and kept in
its cache. Not here: what the fields mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json


class Item(BaseModel):
    """One line of a public file; fields that are not asked for are let through."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)


AnyItem = TypeVar("AnyItem", bound=Item)


def read_items(path: Path, of: type[AnyItem]) -> Iterator[tuple[str, AnyItem]]:
    """(place, item) of a JSONL file, or of a JSON file that is one array of objects.

    The place is `file:line` in JSONL and `file: item 3` in an array; blank lines are skipped.

    Raises:
        ValueError: what is not such an item, as `place: field: reason`; or no item at all.
    """
    empty = True
    for place, raw in _raw_items(path):
        empty = False
        try:
            yield place, of.model_validate_json(raw)
        except ValidationError as error:
            raise ValueError(f"{place}: {fault(error)}") from None
    if empty:
        raise ValueError(f"{path}: nothing in it")


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
        raise ValueError(f"{path}: {fault(error)}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    for number, item in enumerate(items, start=1):
        yield f"{path}: item {number}", TypeAdapter(dict[str, Any]).dump_json(item).decode()


def fault(error: ValidationError) -> str:
    """The first error as `field: reason`, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "item"
    return f"{field}: {first['msg']}"


def decoded(data: bytes) -> str:
    """Text of undeclared encoding: UTF-8, or else Latin-1, which fits any bytes."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def fetch(repository: str, files: Sequence[str]) -> list[Path]:
    """The hub's data set files, fetched or from the cache.

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
