"""`candor probe push` and `candor probe pull`: probes in repositories of the Hugging Face Hub.

    candor probe push --probe build/probe --to org/name     prints the commit
    candor serve --model MODEL --probe org/name@COMMIT
    candor probe pull --probe org/name@COMMIT --out build/probe

The README of the repository is filled from the card. Labelled rows, reports and word lists stay
where they are: they may quote private texts.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.hub.model_card import model_card
from candor.jobs.running.exits import Exit, command
from candor.probes import artifact
from candor.probes.artifact import CARD_FILE, WEIGHTS_FILE, ArtifactError
from candor.probes.sources.repositories import load_probe, located, parse_repository, upload


@Parameter(name="*")
@dataclass(frozen=True)
class PushOptions:
    """The options of `candor probe push`."""

    probe: Path
    """Folder of the probe."""
    _: KW_ONLY
    to: str
    """Repository: org/name. It is made if it is missing."""
    private: Annotated[bool, Parameter(negative="")] = False
    """Make a private repository."""
    base_model: str | None = None
    """Hub name of the reward model, for the README. Default: the name on the card, if it is one."""


@command
def push(options: PushOptions) -> Exit:
    """Put a probe into a repository on the Hugging Face Hub, with a README filled from its card.

    The token is HF_TOKEN, or the one of `hf auth login`.
    """
    repository = parse_repository(options.to)
    if repository is None or repository.revision is not None:
        raise UsageError(f"--to {options.to}: must be org/name")
    try:
        loaded = artifact.load(options.probe)
        readme = model_card(loaded, repository.name, options.base_model)
        commit = upload(options.probe, repository.name, readme, private=options.private)
    except ArtifactError as error:
        raise UsageError(str(error)) from None
    place = f"{repository.name}@{commit}"
    print(json.dumps({"repository": repository.name, "commit": commit, "probe": place}))
    return Exit.DONE


@Parameter(name="*")
@dataclass(frozen=True)
class PullOptions:
    """The options of `candor probe pull`."""

    probe: str
    """Repository: org/name, or org/name@revision for a commit, tag or branch."""
    _: KW_ONLY
    out: Path
    """Folder to write."""
    force: Annotated[bool, Parameter(negative="")] = False
    """Replace another probe that is in that folder."""


@command
def pull(options: PullOptions) -> Exit:
    """Copy a probe from the Hugging Face Hub into a folder."""
    if parse_repository(options.probe) is None:
        raise UsageError(f"--probe {options.probe}: must be org/name or org/name@revision")
    try:
        folder = located(options.probe)
        loaded = load_probe(folder)
    except ArtifactError as error:
        raise UsageError(f"--probe {options.probe}: {error}") from None
    if not options.force and other_probe(options.out, loaded.sha256):
        raise UsageError(f"--out {options.out}: holds another probe; give --force to replace it")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / CARD_FILE).unlink(missing_ok=True)  # a card means that the probe is complete
    for name in (WEIGHTS_FILE, CARD_FILE):
        shutil.copyfile(folder / name, options.out / name)
    print(json.dumps(_summary(options.out, folder, loaded)))
    return Exit.DONE


def other_probe(folder: Path, sha256: str) -> bool:
    """Whether a folder holds a probe that is not the one with this hash."""
    try:
        return artifact.load(folder).sha256 != sha256
    except ArtifactError:
        return (folder / CARD_FILE).exists()


def _summary(out: Path, folder: Path, loaded: artifact.LoadedProbe) -> dict[str, Any]:
    return {
        "out": str(out),
        "name": loaded.card.name,
        "version": loaded.card.version,
        "commit": folder.name,
        "sha256": loaded.sha256,
    }
