"""Data sets on the Hugging Face Hub, through its own library.

    hf:org/name:split              rows of a data set: --rollouts hf:org/name:test
    hf:org/name/config:split       of one of its configurations
    hf:org/name@revision:split     at a commit, tag or branch

Nothing that the Hub holds is run: `datasets` has no code of data sets since version 4.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candor.probes.sources.optional import needs

SCHEME = "hf:"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_DATA_SET = re.compile(
    rf"hf:(?P<name>{_NAME}/{_NAME})(?:/(?P<config>[^@:]+))?(?:@(?P<revision>[^:]+))?"
    r"(?::(?P<split>.+))?"
)


def is_hub(source: Path | str) -> bool:
    """Whether a source of rows is a data set on the Hub."""
    return str(source).startswith(SCHEME)


@dataclass(frozen=True, slots=True)
class HubDataSet:
    """A split of a data set on the Hub. None: the data set's own default."""

    name: str
    config: str | None
    revision: str | None
    split: str


def parse_hub(source: Path | str) -> HubDataSet:
    """`hf:org/name:split` in its parts.

    Raises:
        ValueError: the text is not of this form.
    """
    match = _DATA_SET.fullmatch(str(source))
    if match is None or match["split"] is None:
        raise ValueError(
            f"{source}: a data set on the Hub is written hf:org/name:split, for example "
            "hf:allenai/reward-bench:filtered; also hf:org/name/config:split and "
            "hf:org/name@revision:split"
        )
    return HubDataSet(match["name"], match["config"], match["revision"], match["split"])


def hub_rows(source: Path | str) -> Iterator[dict[str, Any]]:
    """The rows of a data set on the Hub, downloaded or from the cache.

    Raises:
        ValueError: the name is malformed, a package is missing, or there is no such data set,
            configuration or split.
        ConnectionError: the Hub does not answer.
    """
    wanted = parse_hub(source)
    with needs(f"{source} is a data set on the Hub", "download a file of it"):
        import datasets
        from datasets.exceptions import DatasetsError
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(
            wanted.name, wanted.config, split=wanted.split, revision=wanted.revision
        )
    except ConnectionError as error:
        raise ConnectionError(f"{source}: {_first_line(error)}") from None
    except (DatasetsError, OSError, ValueError) as error:
        raise ValueError(f"{source}: {_first_line(error)}") from None
    yield from found


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
