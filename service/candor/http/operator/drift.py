"""`/v1/drift`: how far the scored responses have moved, and the window that says from where."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from candor.errors import NotFound
from candor.http import examples
from candor.http.examples import example_response
from candor.http.openapi import error_responses
from candor.http.state import get_rewarder
from candor.watch.drift import Drift
from candor.watch.drift_report import DriftAlarm, DriftReport

router = APIRouter()


@router.get(
    "/v1/drift",
    summary="Drift of the scored responses",
    responses={**example_response(examples.DRIFT), **error_responses(401, 404, 503)},
)
async def drift(request: Request) -> DriftReport:
    """How far R, every S, the mean-max gaps and the length have moved, and the alarms, those of
    judged responses included. Monitors are shown, because this route is for the operator."""
    report = drift_of(request).report()
    return report.model_copy(update={"alarms": [*report.alarms, *label_alarms(request)]})


@router.get(
    "/v1/drift/reference",
    summary="The drift reference window",
    responses={
        200: {
            "description": "The file that --drift-reference takes.",
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": examples.REFERENCE}
            },
        },
        **error_responses(401, 404, 503),
    },
)
async def drift_reference(request: Request) -> Response:
    """The numbers of the reference window, for another server. 503 until the window is full."""
    return Response(drift_of(request).reference_json(), media_type="application/json")


def label_alarms(request: Request) -> list[DriftAlarm]:
    """What judged responses say of each penalised probe; nothing before the first label."""
    book = get_rewarder(request).labels
    if book.is_empty:
        return []
    return [
        DriftAlarm(probe=name, rule="labels", active=found.alarm is not None, reason=found.alarm)
        for name, found in book.report().probes.items()
        if not found.monitor
    ]


def drift_of(request: Request) -> Drift:
    """The drift windows.

    Raises:
        NotReady: the model is loading.
        NotFound: this server keeps no drift windows.
    """
    found = get_rewarder(request).drift
    if found is None:
        raise NotFound("this server keeps no drift statistics: it runs with --drift-window 0")
    return found
