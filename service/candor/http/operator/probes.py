"""`POST /v1/probes/replace`: a new version of a served probe, handed over while serving."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import Field, ValidationError

from candor.client.schema import ProbeVersion, Wire
from candor.errors import InvalidRequest
from candor.http.openapi import SCORING_ERRORS, typed_body
from candor.http.state import cancel_when_client_disconnects, get_ready_rewarder
from candor.invalid import first_fault_as_error
from candor.probes import artifact
from candor.probes.artifact import ArtifactError, LoadedProbe
from candor.scoring.replacing import replace_probe
from candor.scoring.served import Served
from candor.watch.health import SENTINEL

router = APIRouter(tags=["operator"])


class ProbeReplacement(Wire):
    """Body of `POST /v1/probes/replace`: the two files of a probe's folder.

    Bytes, not a path: they reach a server in a container, and no caller can name a file there.
    """

    card: dict[str, Any] = Field(description="The content of card.json.")
    weights: str = Field(description="The content of probe.safetensors, in base64.")


class ProbeReplaced(Wire):
    """The answer: what is served now, what was served before, and the hash of the whole set."""

    name: str
    now: ProbeVersion
    before: ProbeVersion
    monitor: bool
    lambda_: float = Field(alias="lambda")
    probes_sha256: str


EXAMPLE = {
    "card": {"name": "sycophancy", "layer": 18, "pooling": "mean"},
    "weights": "UAAAAAAAAAB7ImJpYXMi...",
}
REPLACED = {
    "name": "sycophancy",
    "now": {"version": 2, "sha256": "9b1f04..."},
    "before": {"version": 1, "sha256": "41c7aa..."},
    "monitor": False,
    "lambda": 0.5,
    "probes_sha256": "c0ffee...",
}


@router.post(
    "/v1/probes/replace",
    summary="Replace a served probe",
    responses={200: {"content": {"application/json": {"example": REPLACED}}}, **SCORING_ERRORS},
    openapi_extra=typed_body(ProbeReplacement, EXAMPLE),
)
async def replace(request: Request) -> ProbeReplaced:
    """Serves a new version of the probe that the card names, in place of the old one. Requests that
    have begun are answered by the old version as a whole, all later ones by the new. It lasts until
    the server ends. For the operator."""
    rewarder = get_ready_rewarder(request)
    loaded = await rewarder.read(await request.body(), read_replacement)
    deadline: float = request.state.deadline
    work = replace_probe(rewarder, loaded, SENTINEL, max(0.0, deadline - time.monotonic()))
    before, after = await cancel_when_client_disconnects(request, work, deadline)
    return answer(loaded.card.name, before, after)


def read_replacement(content: bytes) -> LoadedProbe:
    """The probe in a body.

    Raises:
        InvalidRequest: it is none; the message names the field.
    """
    try:
        body = ProbeReplacement.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise first_fault_as_error(error) from None
    try:
        weights = base64.b64decode(body.weights, validate=True)
    except binascii.Error:
        raise InvalidRequest("weights: must be the bytes of probe.safetensors in base64") from None
    try:
        return artifact.load_bytes(orjson.dumps(body.card), weights)
    except ArtifactError as error:
        raise InvalidRequest(str(error)) from None


def answer(name: str, before: Served, after: Served) -> ProbeReplaced:
    """What the route says of a replaced probe."""
    now, old = after.everything[name], before.everything[name]
    return ProbeReplaced.model_validate(
        {
            "name": name,
            "now": {"version": now.loaded.card.version, "sha256": now.loaded.sha256},
            "before": {"version": old.loaded.card.version, "sha256": old.loaded.sha256},
            "monitor": now.monitor,
            "lambda": now.default_lambda,
            "probes_sha256": after.sha256,
        }
    )
