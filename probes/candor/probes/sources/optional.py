"""Packages that some kinds of files need and that not every extra brings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EXTRA = "pip install 'candor-rewards[formats]'"


@contextmanager
def needs(what: str, otherwise: str) -> Iterator[None]:
    """Around the import of a package of the extra `formats`.

    Raises:
        ValueError: the package is missing; the message says what to install, or do otherwise.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "a package").partition(".")[0]
        raise ValueError(f"{what}, which needs {package}: {EXTRA}, or {otherwise}") from None
