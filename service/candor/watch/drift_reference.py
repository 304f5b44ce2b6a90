"""The drift reference as a file: the columns of one window, and what they are scores of.

Written by `GET /v1/drift/reference`, read by `--drift-reference`. A reference outlives a restart;
it must not outlive the model or a probe, so it carries their hashes and is refused where they
differ. What is made of two windows is `candor.watch.drift`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from candor.flags import UsageError
from candor.probes.probe import Probe
from candor.watch.windows import MIN_WINDOW

Rows = NDArray[np.float32]
"""[responses, columns]."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Identity:
    """What recorded scores are scores of; `probes` has a sha256 by name (`probe_sha256`)."""

    weights_sha256: str
    template_sha256: str
    probes: Mapping[str, str]


class DriftReference(BaseModel):
    """A reference window as stored, one array of numbers for each recorded column, all as long.

    The columns are `base_reward`, `response_tokens`, and for each probe `score.NAME`, `mean.NAME`
    and `max.NAME`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    version: Literal[1] = 1
    weights_sha256: str
    template_sha256: str
    probes: dict[str, str]
    columns: dict[str, list[Finite]]

    def rows(self, identity: Identity, columns: Sequence[str]) -> Rows:
        """The window, its columns in the order asked for.

        Raises:
            UsageError: taken with another model, template or set of probes.
        """
        differs = [
            what
            for what, same in {
                "model weights": self.weights_sha256 == identity.weights_sha256,
                "chat template": self.template_sha256 == identity.template_sha256,
                "probes": self.probes == identity.probes,
                "columns": self.columns.keys() == set(columns),
            }.items()
            if not same
        ]
        if differs:
            served = ", ".join(identity.probes) or "none"
            known = ", ".join(self.probes) or "none"
            raise UsageError(
                f"--drift-reference was taken with other {' and '.join(differs)} (probes in the "
                f"file: {known}; served: {served}): take a new one from GET /v1/drift/reference"
            )
        return np.array([self.columns[name] for name in columns], dtype=np.float32).T


def probe_sha256(probe: Probe) -> str:
    """Over everything that decides S: weight, bias, layer and pooling."""
    digest = hashlib.sha256(probe.weight.detach().cpu().numpy().astype("<f4").tobytes())
    digest.update(json.dumps([probe.bias, probe.layer, probe.pooling]).encode())
    return digest.hexdigest()


def read_reference(path: Path) -> DriftReference:
    """The file that `GET /v1/drift/reference` wrote.

    Raises:
        UsageError: not readable, not of that form, or fewer than `MIN_WINDOW` responses.
    """
    try:
        reference = DriftReference.model_validate_json(path.read_bytes())
    except OSError as error:
        reason = type(error).__name__
        raise UsageError(f"--drift-reference {path}: cannot be read ({reason})") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"--drift-reference {path}: {where or 'file'}: {first['msg']}; save it again from "
            "GET /v1/drift/reference"
        ) from None
    lengths = {len(column) for column in reference.columns.values()}
    if len(lengths) != 1 or min(lengths) < MIN_WINDOW:
        raise UsageError(
            f"--drift-reference {path}: needs columns of one length, at least {MIN_WINDOW}, "
            f"has {sorted(lengths)}"
        )
    return reference
