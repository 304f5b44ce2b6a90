"""The trainers' routes: the contracts of each path. A request takes the same way as in
`POST /v1/rewards`: the same refusals, key and deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from candor.http import openapi
from candor.http.state import cancel_when_client_disconnects, get_ready_rewarder, get_state
from candor.scoring.rewarder import Rewarder
from candor.trainers import align_anything, llama_factory, openrlhf, sglang, slime, tei
from candor.trainers.contract import Contract, ContractAnswer, ScoreCall
from candor.trainers.options import TrainerRoutes
from candor.trainers.translate import (
    Outcome,
    read_call,
    score_responses,
    tokens_of,
    understand,
    write_answer,
)
from candor.trainers.vllm import pairs, texts, tokens

Contracts = Sequence[Contract[Any]]
Work = Callable[[Rewarder, ScoreCall, TrainerRoutes, float], Awaitable[Outcome]]
"""What a route does with the texts of a body. The last argument is the deadline."""

ROUTES: dict[str, Contracts] = {
    "/get_reward": (openrlhf.CONTRACT, align_anything.CONTRACT),
    "/slime": (slime.CONTRACT,),
    "/slime/keyed": (slime.KEYED,),
    "/classify": (texts.CLASSIFY, sglang.CONTRACT),
    "/pooling": (texts.POOLING,),
    "/v1/embeddings": (texts.EMBEDDINGS,),
    "/score": (pairs.SCORE,),
    "/v1/score": (pairs.SCORE,),
    "/rerank": (pairs.INFINITY, pairs.RERANK, tei.RERANK),
    "/v1/rerank": (pairs.INFINITY, pairs.RERANK),
    "/v2/rerank": (pairs.INFINITY, pairs.RERANK),
    "/invocations": (texts.CLASSIFY, pairs.RERANK, pairs.SCORE),
    "/predict": (tei.PREDICT,),
    "/v1/score/evaluation": (llama_factory.CONTRACT,),
}
"""The contracts of each path that scores. The first contract whose fields the body has is used."""

TOKENIZE: dict[str, Contracts] = {"/tokenize": (tokens.CONTRACT,)}
"""The path that only counts."""


def endpoint(contracts: Contracts, work: Work) -> Callable[[Request], Awaitable[Response]]:
    """The handler of a path with these contracts."""

    async def answer(request: Request) -> Response:
        rewarder, state = get_ready_rewarder(request), get_state(request)
        contract, body = await rewarder.read(
            await request.body(), lambda content: understand(content, contracts)
        )
        settings = state.settings.trainers
        deadline: float = request.state.deadline
        call = read_call(contract, body)
        responses, warnings, probes = await cancel_when_client_disconnects(
            request, work(rewarder, call, settings, deadline), deadline
        )
        answered = ContractAnswer(
            responses=responses,
            methods=rewarder.served.methods,
            model=rewarder.model_id,
            request_id=request.state.request_id,
            created=int(state.began.timestamp()),
            max_length=rewarder.model.max_length,
            settings=settings,
        )
        written = write_answer(contract, body, answered)
        return Response(
            written.content,
            media_type=written.media_type,
            headers={**written.headers, **warning_header(warnings), **probes_header(probes)},
        )

    return answer


def warning_header(warnings: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The warnings of an answer whose body has no room for them."""
    if not warnings:
        return {}
    return {
        "x-candor-warnings": "; ".join(f"{each['type']}: {each['message']}" for each in warnings)
    }


def probes_header(sha256: str | None) -> dict[str, str]:
    """The hash of the probes that answered, for a body that has no room for it."""
    return {} if sha256 is None else {"x-candor-probes": sha256}


def trainers_router() -> APIRouter:
    """A router with all of `ROUTES` and `TOKENIZE`."""
    router = APIRouter(tags=["trainers"])
    for path, contracts in (ROUTES | TOKENIZE).items():
        router.add_api_route(
            path,
            endpoint(contracts, tokens_of if path in TOKENIZE else score_responses),
            methods=["POST"],
            summary=" or ".join(contract.client for contract in contracts),
            description=(
                "A translation of `POST /v1/rewards`. A field that would change a reward is "
                "honoured or refused, and a field that the route does not have is refused. A null "
                "counts as an absent field. A request is scored as a whole or refused."
            ),
            responses=openapi.contract_responses(contracts),
            openapi_extra=openapi.contract_body(contracts),
        )
    return router


router = trainers_router()
