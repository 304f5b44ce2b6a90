"""`cause_of`: one line for an error of transformers or the hub, that says what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

MAX_CHARS = 300

_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"GatedRepoError|gated repo|\b401\b|\b403\b|Unauthorized|Forbidden",
        "accept its licence on its page of the hub, and set HF_TOKEN to a token that may read it",
    ),
    (r"RevisionNotFoundError", "check --revision"),
    (
        r"RepositoryNotFoundError|\b404\b",
        "check the name; for a private repository set HF_TOKEN to a token that may read it",
    ),
    (
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|OfflineMode|HF_HUB_OFFLINE",
        "it is not complete in this machine's cache (HF_HUB_CACHE), and the hub is not asked or "
        "not reached: download it where there is a network, or give the model's folder",
    ),
    (
        r"ConnectionError|ConnectError|ConnectTimeout|ReadTimeout|ProxyError|NameResolution",
        "the hub cannot be reached: check the network and HTTPS_PROXY, or give the model's folder",
    ),
    (r"HFValidationError|Repo id must", "give a folder that exists, or owner/name of the hub"),
    (
        r"OutOfMemoryError|out of memory|can't allocate memory|Cannot allocate memory|MemoryError"
        r"|bad_alloc",
        "the model does not fit into memory: try --dtype bfloat16, a larger device, or --engine "
        "vllm with --tensor-parallel-size",
    ),
    (r"No space left on device", "the disk is full: free some, or set HF_HUB_CACHE elsewhere"),
    (r"PermissionError|Permission denied", "let the server's user read the model's files"),
    (r"sentencepiece", "pip install sentencepiece protobuf"),
    (r"protobuf", "pip install protobuf"),
    (r"tiktoken", "pip install tiktoken"),
    (
        r"trust_remote_code|contains custom code",
        "it needs code that the folder brings, which is never run",
    ),
    (
        r"SafetensorError|HeaderTooLarge|MetadataIncomplete|header too large|EOFError|FileNotFound",
        "a file is missing or incomplete: download or save it again",
    ),
)


def cause_of(error: BaseException, folder: Path | None = None) -> str:
    """The error's class and first line, what caused it, and what to install or permit.

    Args:
        folder: the model's folder; its path is left out, because callers of the server see it.
    """
    chain = [*_chain(error)]
    first = _line(chain[0])
    parts = [first]
    # Wrappers of the hub and of transformers often hide the cause in the error that they replace.
    parts += [line for line in map(_line, chain[-1:]) if line != first]
    text = "; from ".join(parts)
    if folder is not None:
        for path in {str(folder), str(folder.absolute()), str(folder.resolve())}:
            text = text.replace(path, folder.name)
    told = "\n".join(f"{type(one).__name__}: {one}" for one in chain)
    return _with(text, advice_for(told))


def advice_for(told: str) -> str | None:
    """What to do about an error with this text; None if it is not known here."""
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, told)), None)


def _with(text: str, advice: str | None) -> str:
    return f"{text} ({advice})" if advice else text


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _line(error: BaseException) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    line = next((part.strip() for part in plain.splitlines() if part.strip()), "")
    if len(line) > MAX_CHARS:
        line = line[: MAX_CHARS - 3] + "..."
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
