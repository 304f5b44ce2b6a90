"""The routes. An error raised here is answered by `candor.http.edge`."""

from __future__ import annotations

from dataclasses import asdict

import torch
import transformers
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from candor.client.schema import Combine, RewardRequest, RewardResponse
from candor.errors import CandorError, MethodNotAllowed, NotFound
from candor.http import examples, openapi
from candor.http.answers import (
    Alive,
    ModelList,
    ProbeList,
    Readiness,
    ServedModel,
    ServedProbeCard,
    StartUpState,
    Version,
)
from candor.http.edge import error_answer
from candor.http.examples import example_response
from candor.http.openapi import SCORING_ERRORS, error_responses
from candor.http.operator.drift import router as operator_drift
from candor.http.operator.labels import router as operator_labels
from candor.http.operator.probes import ProbeReplacement
from candor.http.operator.probes import router as operator_probes
from candor.http.state import (
    NOT_READY_RETRY_AFTER_S,
    cancel_when_client_disconnects,
    get_ready_rewarder,
    get_rewarder,
    get_state,
)
from candor.http.trainer_routes import ROUTES, TOKENIZE
from candor.http.trainer_routes import router as trainers
from candor.labels.wire import LabelRequest
from candor.scoring.caveats import caveats, within_prompt_auroc
from candor.text.request import parse
from candor.version import VERSION
from candor.watch.startup import PHASES

router = APIRouter()


@router.post(
    "/v1/rewards",
    summary="Score responses",
    responses={
        200: {
            "model": RewardResponse,
            "description": "One result per item, in order.",
            "content": {"application/json": {"example": openapi.RESPONSE_EXAMPLE}},
        },
        **SCORING_ERRORS,
    },
    openapi_extra=openapi.REWARDS_BODY,
)
async def rewards(request: Request) -> Response:
    """R, the probes' scores and the penalised reward of every response, from one forward."""
    rewarder = get_ready_rewarder(request)
    scoring_request = await rewarder.read(await request.body(), parse)
    deadline: float = request.state.deadline
    work = rewarder.score(scoring_request, deadline)
    answer = await cancel_when_client_disconnects(request, work, deadline)
    return Response(answer, media_type="application/json")


@router.get("/livez", summary="Is the process alive", responses=example_response(examples.ALIVE))
async def livez() -> Alive:
    """200 while the event loop runs, also while loading or draining. Restart the server if this
    fails."""
    return Alive()


@router.get(
    "/health", summary="Same as /readyz", response_model=Readiness, responses=examples.READINESS
)
@router.get(
    "/ready", summary="Same as /readyz", response_model=Readiness, responses=examples.READINESS
)
@router.get(
    "/readyz",
    summary="Is the server ready for work",
    response_model=Readiness,
    responses=examples.READINESS,
)
async def readyz(request: Request) -> Response:
    """200 if the model is loaded, the sentinel's scores are right, and the server is not
    draining."""
    health = get_state(request).health
    readiness = Readiness(status=health.status, reason=health.reason)
    return Response(
        readiness.model_dump_json(),
        status_code=200 if health.ready else 503,
        headers=None if health.ready else {"retry-after": str(NOT_READY_RETRY_AFTER_S)},
        media_type="application/json",
    )


@router.get(
    "/startupz",
    summary="How far is the start",
    response_model=StartUpState,
    responses=examples.STARTUP,
)
async def startupz(request: Request) -> Response:
    """200 once the server has been ready for the first time, also while it drains. Before that 503,
    with the phase of the start and how long it has run."""
    health = get_state(request).health
    progress = health.startup.progress()
    failed = health.failed is not None
    body = StartUpState(
        status="failed" if failed else "started" if health.startup.ended else "starting",
        steps=len(PHASES),
        **asdict(progress),
    )
    return Response(
        body.model_dump_json(),
        status_code=200 if body.status == "started" else 503,
        headers=None if body.status == "started" else {"retry-after": str(NOT_READY_RETRY_AFTER_S)},
        media_type="application/json",
    )


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    responses={
        200: {"content": {"text/plain": {"example": examples.METRICS}}},
        **error_responses(401),
    },
    response_class=PlainTextResponse,
)
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format. Answered while loading and draining too."""
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return Response(get_state(request).metrics.render(), media_type=kind)


@router.get(
    "/v1/models",
    summary="The served model",
    responses={**example_response(examples.MODELS), **error_responses(401, 503)},
)
async def models(request: Request) -> ModelList:
    """The model in OpenAI's list format, with all that determines the scores: weights, template,
    dtype, formula."""
    return ModelList(data=[served_model(request)])


@router.get(
    "/v1/models/{model_id:path}",
    summary="The served model, by its id",
    responses={**example_response(examples.MODELS["data"][0]), **error_responses(401, 404, 503)},
)
async def model(request: Request, model_id: str) -> ServedModel:
    """The entry of `/v1/models`, for clients that ask for it by name. 404 for another id."""
    served = served_model(request)
    if model_id != served.id:
        raise NotFound(f"this server serves one model: {served.id}")
    return served


def served_model(request: Request) -> ServedModel:
    rewarder = get_rewarder(request)
    model = rewarder.model
    return ServedModel(
        id=rewarder.model_id,
        created=int(get_state(request).began.timestamp()),
        revision=model.weights_sha256,
        template=model.template_sha256,
        template_date=None if model.template_date is None else model.template_date.isoformat(),
        engine=rewarder.engine_name,
        engine_reason=rewarder.engine_reason,
        formula=rewarder.formula,
        combine=Combine(**asdict(rewarder.combination)),
        methods=rewarder.served.methods,
        dtype=rewarder.dtype,
        device=model.device,
        max_length=model.max_length,
        ending=model.ending,
    )


@router.get(
    "/v1/probes",
    summary="The served probes",
    responses={**example_response(examples.PROBES), **error_responses(401, 503)},
)
async def probes(request: Request) -> ProbeList:
    """Each probe's card and default lambda. Monitors are not listed, so that an optimiser cannot
    see them."""
    served = get_rewarder(request).served
    listed = [
        {
            "name": name,
            "method": probe.method,
            "threshold": probe.use.threshold,
            "lambda": probe.default_lambda,
            "can_raise_reward": probe.can_raise_reward,
            "within_prompt_auroc": within_prompt_auroc(probe.loaded.card),
            "warnings": [
                asdict(caveat) for caveat in caveats(probe.loaded.card, bounded=probe.bounded)
            ],
            **served.versions()[name],
            "card": probe.loaded.card.model_dump(mode="json"),
        }
        for name, probe in served.penalised.items()
    ]
    return ProbeList(
        probes=[ServedProbeCard.model_validate(probe) for probe in listed],
        probes_sha256=served.sha256,
    )


router.include_router(operator_drift)


@router.get(
    "/version",
    summary="Versions",
    responses={**example_response(examples.VERSION), **error_responses(401)},
)
async def version() -> Version:
    """Versions of this server and of the libraries that determine its scores."""
    return Version(version=VERSION, torch=torch.__version__, transformers=transformers.__version__)


router.include_router(operator_probes)
router.include_router(operator_labels)
router.include_router(trainers)

BODIES: tuple[type[BaseModel], ...] = (
    RewardRequest,
    ProbeReplacement,
    LabelRequest,
    *(contract.body for contracts in (ROUTES | TOKENIZE).values() for contract in contracts),
)
"""The body types of all POST routes."""


def route_table() -> list[tuple[str, str]]:
    """(method, path) of every route, in order."""
    return [
        (method, route.path_format)
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods)
    ]


async def on_routing_error(request: Request, error: Exception) -> Response:
    """Starlette's 404 and 405 in Candor's envelope, with the routes or methods that exist."""
    if not isinstance(error, HTTPException):
        raise error
    allowed = (error.headers or {}).get("Allow", "")
    methods = ", ".join([allowed, *(["HEAD"] if allowed == "GET" else []), "OPTIONS"])
    if error.status_code == 405 and request.method == "OPTIONS":
        # Without a header of CORS a web page learns nothing and may send nothing.
        return Response(status_code=204, headers={"allow": methods})
    named: CandorError
    if error.status_code == 405:
        named = MethodNotAllowed(f"this route answers {allowed}")
    else:
        routes = ", ".join(f"{method} {path}" for method, path in route_table())
        named = NotFound(f"no such route; there are {routes}")
    body, headers = error_answer(named, request.state.request_id)
    if allowed:
        headers["allow"] = methods
    get_state(request).metrics.errors.labels(named.type).inc()
    return Response(body, status_code=named.status, headers=headers)
