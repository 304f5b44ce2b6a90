"""`candor probe replace`: hands a probe's folder to a server that serves a probe of its name.

The server checks it and serves it from one request to the next (docs/api.md, `POST
/v1/probes/replace`). It forgets it when it ends: give the new folder as --probe at the next start.
"""

from __future__ import annotations

import base64
import json
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import httpx2
from cyclopts import Parameter

from candor.client.retry import NO_ANSWER, error_of, http_url, shown, timeout
from candor.flags import RewardUrl, UsageError, read_server_key
from candor.jobs.running.exits import Exit, JobStopped, command
from candor.probes import artifact
from candor.probes.sources.repositories import load_probe, located

TIMEOUT_S = 300.0


@Parameter(name="*")
@dataclass(frozen=True)
class ReplaceOptions:
    """The options of `candor probe replace`."""

    probe: Path
    """Folder of the new probe."""
    _: KW_ONLY
    reward_url: RewardUrl
    """Address of the Candor server. Each replica has to be given the probe at its own address."""
    operator_key_file: Path | None = None
    """File that holds the server's operator key, or its API key where it has no other. Default: the
    key in CANDOR_API_KEY."""


@command
def replace(options: ReplaceOptions) -> Exit:
    """Hand a probe to a running server, in place of the probe of its name."""
    key = read_server_key("--operator-key-file", options.operator_key_file)
    print(json.dumps(hand_over(options.probe, options.reward_url, key)))
    return Exit.DONE


def hand_over(folder: Path, url: str, key: str | None) -> dict[str, Any]:
    """The server's answer: the versions before and after.

    Raises:
        UsageError: the folder holds no probe, or the server refuses it.
        JobStopped: (unreachable) no answer. The server may have taken the probe: GET /v1/probes
            says which version it serves.
    """
    try:
        folder = located(folder)
        load_probe(folder)
    except artifact.ArtifactError as error:
        raise UsageError(f"--probe {folder}: {error}") from None
    body = {
        "card": json.loads((folder / artifact.CARD_FILE).read_bytes()),
        "weights": base64.b64encode((folder / artifact.WEIGHTS_FILE).read_bytes()).decode(),
    }
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        answer = httpx2.post(
            f"{http_url(url)}/v1/probes/replace",
            json=body,
            headers=headers,
            timeout=timeout(TIMEOUT_S),
        )
    except NO_ANSWER as error:
        said = f"no answer from {shown(url)}/v1/probes/replace ({type(error).__name__})"
        raise JobStopped(Exit.UNREACHABLE, said) from None
    if not answer.is_success:
        raise UsageError(f"the server keeps its probe: {error_of(answer)}")
    found: dict[str, Any] = answer.json()
    return found
