"""The trainers' routes: which path speaks which contracts. Each request goes the way of
`POST /v1/rewards`, with its refusals, its key and its deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from candor.http import openapi
from candor.http.waiting import ready, while_awaited
from candor.trainers import (
    align_anything,
    llama_factory,
    openrlhf,
    sglang,
    slime,
    tei,
    vllm,
    vllm_pairs,
)
from candor.trainers.contract import Contract, Scored
from candor.trainers.options import TrainerRoutes
from candor.trainers.translate import ask, responses, understand

Shapes = Sequence[Contract[Any]]

ROUTES: dict[str, Shapes] = {
    "/get_reward": (openrlhf.CONTRACT, align_anything.CONTRACT),
    "/slime": (slime.CONTRACT,),
    "/slime/keyed": (slime.KEYED,),
    "/classify": (vllm.CLASSIFY, sglang.CONTRACT),
    "/pooling": (vllm.POOLING,),
    "/v1/embeddings": (vllm.EMBEDDINGS,),
    "/score": (vllm_pairs.SCORE,),
    "/v1/score": (vllm_pairs.SCORE,),
    "/rerank": (vllm_pairs.RERANK, tei.RERANK),
    "/v1/rerank": (vllm_pairs.RERANK,),
    "/v2/rerank": (vllm_pairs.RERANK,),
    "/predict": (tei.PREDICT,),
    "/v1/score/evaluation": (llama_factory.CONTRACT,),
}
"""In each, the first contract whose fields the body has."""


def endpoint(shapes: Shapes) -> Callable[[Request], Awaitable[Response]]:
    """The handler of a path that speaks these contracts."""

    async def answer(request: Request) -> Response:
        rewarder = ready(request)
        contract, body = understand(await request.body(), shapes)
        settings: TrainerRoutes = request.app.state.settings.trainers
        deadline: float = request.state.deadline
        work = responses(rewarder, ask(contract, body), settings, deadline)
        scored = Scored(
            responses=await while_awaited(request, work, deadline),
            probes=tuple(name for name, one in rewarder.served.items() if not one.monitor),
            model=rewarder.model_id,
            request_id=request.state.request_id,
            created=int(request.app.state.began.timestamp()),
            settings=settings,
        )
        return Response(orjson.dumps(contract.write(body, scored)), media_type="application/json")

    return answer


def trainers_router() -> APIRouter:
    """All of them."""
    router = APIRouter(tags=["trainers"])
    for path, shapes in ROUTES.items():
        router.add_api_route(
            path,
            endpoint(shapes),
            methods=["POST"],
            summary=" or ".join(shape.client for shape in shapes),
            description=(
                "A translation of `POST /v1/rewards`. Unknown fields are ignored; a request is "
                "scored whole or refused."
            ),
            responses=openapi.contract_responses(shapes),
            openapi_extra=openapi.contract_body(shapes),
        )
    return router


router = trainers_router()
