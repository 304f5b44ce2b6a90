"""What a probe is tied to: sha256 of a model's weights files and of a chat template.

A probe read off other weights, or over text rendered otherwise, gives numbers that look fine and
mean nothing; these two strings are how loading notices.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def weights_sha256(folder: Path) -> str:
    """One hash over the folder's `*.safetensors`: hex, 64 characters.

    It is what `LC_ALL=C sha256sum *.safetensors | sha256sum` prints in that folder, so anyone can
    check it. Files are streamed. Renaming a file changes the hash; config and tokeniser files do
    not count.

    Raises:
        ValueError: no safetensors file in the folder.
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
