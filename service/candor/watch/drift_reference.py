"""The drift reference as a file: one window's columns, and the model and probes they belong to.

`GET /v1/drift/reference` writes it, `--drift-reference` reads it. A reference outlives a restart of
the server. It must not outlive the model or a probe, so it carries their hashes and is refused if
they differ. `candor.watch.drift` compares two windows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from candor.errors import reason_of
from candor.flags import UsageError
from candor.probes.card import Finite
from candor.probes.faults import first_fault
from candor.probes.jsonl import BOM
from candor.probes.probe import Probe
from candor.watch.windows import MIN_WINDOW

WindowRows = NDArray[np.float32]
"""[responses, columns]."""


@dataclass(frozen=True, slots=True)
class ScoresIdentity:
    """The model and probes that recorded scores belong to; `probes`: name -> `probe_sha256`."""

    weights_sha256: str
    template_sha256: str
    probes: Mapping[str, str]


class DriftReference(BaseModel):
    """A reference window as stored: one array of numbers per recorded column, all of one length.

    The columns are `base_reward`, `response_tokens`, and for each probe `score.NAME`, `mean.NAME`
    and `max.NAME`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    version: Literal[1] = 1
    weights_sha256: str
    template_sha256: str
    probes: dict[str, str]
    columns: dict[str, list[Finite]]

    def check(self, identity: ScoresIdentity, columns: Sequence[str]) -> None:
        """Refuses a reference of other scores.

        Raises:
            UsageError: the reference belongs to another model, template or set of probes.
        """
        differs = [
            part
            for part, same in {
                "model weights": self.weights_sha256 == identity.weights_sha256,
                "chat template": self.template_sha256 == identity.template_sha256,
                "probes": self.probes == identity.probes,
                "columns": self.columns.keys() == set(columns),
            }.items()
            if not same
        ]
        if differs:
            served = ", ".join(identity.probes) or "none"
            recorded = ", ".join(self.probes) or "none"
            raise UsageError(
                f"--drift-reference was taken with other {' and '.join(differs)} (probes in the "
                f"file: {recorded}; served: {served}): take a new reference from "
                "GET /v1/drift/reference"
            )

    def rows(self, columns: Sequence[str]) -> WindowRows:
        """The window [responses, columns], its columns in the order given."""
        return np.array([self.columns[name] for name in columns], dtype=np.float32).T


def probe_sha256(probe: Probe, *, projected: bool = False) -> str:
    """Hash of everything that determines S: weight, bias, layer and pooling. Where the probe's
    direction is taken out of the model, R is another one, and so is the hash."""
    digest = hashlib.sha256(probe.weight.detach().cpu().numpy().astype("<f4").tobytes())
    known = [probe.bias, probe.layer, probe.pooling]
    digest.update(json.dumps([*known, "project"] if projected else known).encode())
    return digest.hexdigest()


def read_reference(path: Path) -> DriftReference:
    """Reads a file that `GET /v1/drift/reference` wrote.

    Raises:
        UsageError: the file is not readable, has another form, or holds fewer than
            `MIN_WINDOW` responses.
    """
    try:
        reference = DriftReference.model_validate_json(path.read_bytes().removeprefix(BOM))
    except OSError as error:
        raise UsageError(f"--drift-reference {path}: cannot be read ({reason_of(error)})") from None
    except ValidationError as error:
        raise UsageError(
            f"--drift-reference {path}: {first_fault(error, 'file')}; save it again from "
            "GET /v1/drift/reference"
        ) from None
    lengths = {len(column) for column in reference.columns.values()}
    if len(lengths) != 1 or min(lengths) < MIN_WINDOW:
        raise UsageError(
            f"--drift-reference {path}: needs columns of one length, at least {MIN_WINDOW}, "
            f"has {sorted(lengths)}"
        )
    return reference
