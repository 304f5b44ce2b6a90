"""Hashes that tie a probe to its model: sha256 of the weights files and of the chat template.

A probe on other weights, or on text rendered with another template, gives numbers that look fine
and mean nothing. Loading compares these two hashes and refuses such a probe.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def weights_sha256(folder: Path) -> str:
    """One hash over the folder's `*.safetensors`: hex, 64 characters.

    The hash is what `LC_ALL=C sha256sum *.safetensors | sha256sum` prints in that folder, so it can
    be checked by hand. Files are streamed. Renaming a file changes the hash; config and tokeniser
    files do not count.

    Raises:
        ValueError: there is no safetensors file in the folder.
    """
    files = sorted(folder.glob("*.safetensors"), key=lambda path: path.name)
    if not files:
        raise ValueError(
            f"no *.safetensors file in {folder}: Candor reads safetensors weights only"
        )
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{digest}  {path.name}\n".encode())
    return total.hexdigest()


def template_sha256(chat_template: str | None) -> str:
    """sha256 of the template's text; a tokeniser without one counts as the empty text."""
    return hashlib.sha256((chat_template or "").encode()).hexdigest()


def dated_sha256(undated: str, template_date: str) -> str:
    """The hash of a template that writes the date: of the template's hash and the ISO date."""
    return hashlib.sha256(f"{undated} {template_date}".encode()).hexdigest()
