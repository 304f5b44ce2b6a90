"""Probes in repositories of the Hugging Face Hub: `org/name` or `org/name@revision`.

A probe's repository is a model repository with `probe.safetensors`, `card.json` and a `README.md`
that says what is on the card. `huggingface_hub` does the transfers: it reads HF_TOKEN and
HF_ENDPOINT, keeps downloads in its cache, and downloads nothing twice.

Only these files are read from a repository, and none of them is code.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from candor.probes import artifact
from candor.probes.artifact import CARD_FILE, WEIGHTS_FILE, ArtifactError, LoadedProbe

README = "README.md"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPOSITORY = re.compile(rf"(?P<name>{_PART}/{_PART})(?:@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on the Hub. `revision`: a commit, tag or branch; None is its main branch."""

    name: str
    revision: str | None


def parse_repository(text: str) -> Repository | None:
    """`org/name` or `org/name@revision`; None for a text of another form, such as a path."""
    match = _REPOSITORY.fullmatch(text)
    return None if match is None else Repository(match["name"], match["revision"])


def load_probe(place: Path | str) -> LoadedProbe:
    """The probe in a folder, or in a repository on the Hub.

    Raises:
        ArtifactError, ProbeMismatch: as `candor.probes.artifact.load`; or there is neither such a
            folder nor such a repository.
    """
    return artifact.load(located(place))


def located(place: Path | str) -> Path:
    """The folder of a probe on this machine. A repository is downloaded, or found in the cache.

    A folder comes before a repository of the same name.

    Raises:
        ArtifactError: there is neither such a folder nor such a repository, or the Hub does not
            answer.
    """
    folder = Path(place)
    repository = parse_repository(str(place))
    if folder.exists() or repository is None:
        return folder
    with _told(f"no folder {place}, and the Hub"):
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                repository.name,
                revision=repository.revision,
                allow_patterns=[CARD_FILE, WEIGHTS_FILE],
            )
        )


def upload(folder: Path, name: str, readme: str, *, private: bool) -> str:
    """Puts the probe in `folder` into the repository `name`, which is made if it is missing, as one
    commit.

    Returns:
        The commit, for `org/name@commit`.

    Raises:
        ArtifactError: the Hub refuses, or does not answer.
    """
    with _told("the Hub"):
        from huggingface_hub import CommitOperationAdd, HfApi

        hub = HfApi()
        hub.create_repo(name, private=private or None, exist_ok=True)
        contents: dict[str, bytes | Path] = {
            README: readme.encode(),
            WEIGHTS_FILE: folder / WEIGHTS_FILE,
            CARD_FILE: folder / CARD_FILE,
        }
        files = [CommitOperationAdd(path, content) for path, content in contents.items()]
        commit = hub.create_commit(
            name, files, commit_message="Probe, written by candor probe push"
        )
        return str(commit.oid)


@contextmanager
def _told(who: str) -> Iterator[None]:
    """What huggingface_hub raises, as one sentence. Bars are for terminals only."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    except (OSError, ValueError) as error:  # its own errors are OSErrors and ValueErrors
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or type(error).__name__
        raise ArtifactError(f"{who} says: {reason}") from error
