"""`/v1/labels`: judged rows in, and what they say about the probes out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from candor.client.schema import Message
from candor.errors import UnknownProbe
from candor.http.openapi import SCORING_ERRORS, error_responses, typed_body
from candor.http.state import cancel_when_client_disconnects, get_ready_rewarder, get_rewarder
from candor.invalid import MAX_OBJECTS, first_fault_as_error, refuse_many_objects
from candor.labels.book import Line, line_of
from candor.labels.wire import EXAMPLE, REPORT, LabelItem, LabelReport, LabelRequest
from candor.scoring.rewarder import Rewarder
from candor.text.request import Group, ScoringRequest, reply_of, scoring_context

router = APIRouter(tags=["operator"])

REPORTED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": REPORT}}}
}


@router.post(
    "/v1/labels",
    summary="Judged responses",
    responses={**REPORTED, **SCORING_ERRORS},
    openapi_extra=typed_body(LabelRequest, EXAMPLE),
)
async def add_labels(request: Request) -> LabelReport:
    """Scores judged responses and compares every probe with the judge, within prompts. They are
    not in the drift windows. A request counts as a whole or not at all. For the operator."""
    rewarder = get_ready_rewarder(request)
    body = await rewarder.read(await request.body(), read_labels)
    deadline: float = request.state.deadline
    lines = await cancel_when_client_disconnects(
        request, judged(rewarder, body, deadline), deadline
    )
    rewarder.labels.add(lines)
    return rewarder.labels.report()


@router.get(
    "/v1/labels",
    summary="The probes against the judge",
    responses={**REPORTED, **error_responses(401, 503)},
)
async def labels(request: Request) -> LabelReport:
    """Each probe's AUROC within prompts on the judged responses, and the alarms. Monitors are
    included, because this route is for the operator."""
    return get_rewarder(request).labels.report()


@router.get(
    "/v1/labels/rows",
    summary="The judged rows",
    response_class=Response,
    responses={
        200: {
            "description": "The newest judged rows as JSONL, for `candor probe refresh --labels`.",
            "content": {"application/x-ndjson": {"example": '{"group": "3fa1", "label": 1}\n'}},
        },
        **error_responses(401, 503),
    },
)
async def label_rows(request: Request) -> Response:
    """The rows that the server keeps, oldest first. They hold texts. For the operator."""
    return Response(get_rewarder(request).labels.rows(), media_type="application/x-ndjson")


def read_labels(content: bytes) -> LabelRequest:
    """The body of `POST /v1/labels`.

    Raises:
        InvalidRequest: it is none; the message names the field.
    """
    if len(content) > MAX_OBJECTS:
        refuse_many_objects(content)
    try:
        return LabelRequest.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise first_fault_as_error(error) from None


async def judged(rewarder: Rewarder, body: LabelRequest, deadline: float) -> list[list[Line]]:
    """The body's rows, with R and every judged probe's S.

    Raises:
        CandorError: an unknown probe is named, or a response cannot be scored.
    """
    names = list(rewarder.served.everything if body.probes is None else body.probes)
    if unknown := [name for name in names if name not in rewarder.served.everything]:
        choices = ", ".join(repr(name) for name in rewarder.served.everything) or "none"
        where = (body.probes or []).index(unknown[0])
        raise UnknownProbe(f"probes[{where}]: no probe of this name is served; served: {choices}")
    groups = tuple(
        Group(scoring_context(item), tuple(reply_of(response) for response in item.responses))
        for item in body.items
    )
    request = ScoringRequest(groups, truncation=body.truncation)
    served, scores = await rewarder.scores(request, deadline)
    hashes = {name: served.everything[name].loaded.sha256 for name in names}
    found = iter(scores)
    return [
        [
            line_of(
                context_of(item),
                response.as_sent() if isinstance(response, Message) else response,
                label,
                drawn=item.drawn,
                base_reward=score.base_reward,
                scores={name: score.readings[name].score for name in names},
                probes=hashes,
            )
            for response, label, score in zip(item.responses, item.labels, found, strict=False)
        ]
        for item in body.items
    ]


def context_of(item: LabelItem) -> dict[str, Any]:
    """The fields of an item that are its context, as they were sent."""
    if item.messages is None:
        return {"prompt": item.prompt} | ({"templated": True} if item.templated else {})
    tools = {"tools": item.tools} if item.tools else {}
    return {"messages": [message.as_sent() for message in item.messages], **tools}
