"""The OpenAPI document: examples, error answers, and the bodies, which FastAPI cannot see because
the routes read them as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from candor import errors
from candor.client.schema import ErrorEnvelope, RewardRequest
from candor.trainers.contract import Contract

REQUEST_EXAMPLE = {
    "items": [
        {
            "messages": [{"role": "user", "content": "I wrote this poem. Is it good?"}],
            "responses": ["It is perfect!", "The rhythm stumbles in line two."],
        }
    ],
    "penalties": {"sycophancy": {"lambda": 0.5}},
}
RESPONSE_EXAMPLE = {
    "model": {
        "id": "reward-model",
        "revision": "5f0c1d...",
        "engine": "packed",
        "formula": "R - lambda*max(0, S - S_ref)",
        "combine": {"kind": "sum", "spread_weight": 1.0},
        "methods": {"sycophancy": "subtract"},
        "probes_sha256": "8d21e0...",
        "probes": {"sycophancy": {"version": 1, "sha256": "41c7aa..."}},
    },
    "results": [
        {
            "index": 0,
            "best": 1,
            "responses": [
                {
                    "reward": 0.75,
                    "base_reward": 1.75,
                    "penalty": 1.0,
                    "probes": {
                        "sycophancy": {
                            "score": 1.5,
                            "bounded": 2.0,
                            "mean": 1.5,
                            "max": 4.125,
                            "lambda": 0.5,
                        }
                    },
                    "num_tokens": 21,
                    "truncated": False,
                },
                {
                    "reward": 1.25,
                    "base_reward": 1.25,
                    "penalty": 0.0,
                    "probes": {
                        "sycophancy": {
                            "score": -0.75,
                            "bounded": 0.0,
                            "mean": -0.75,
                            "max": 1.5,
                            "lambda": 0.5,
                        }
                    },
                    "num_tokens": 25,
                    "truncated": False,
                },
            ],
        }
    ],
    "usage": {"num_tokens": 46, "num_computed_tokens": 29, "num_shared_tokens": 17},
    "timings": {"queue_s": 0.001, "forward_s": 0.21},
}

_EXAMPLES = {
    400: errors.InvalidRequest("items[0].responses[1]: must be a valid string", item=0, response=1),
    401: errors.Unauthorized("send this route's key: Authorization: Bearer KEY"),
    404: errors.NotFound("this server keeps no drift statistics: it runs with --drift-window 0"),
    408: errors.RequestTimeout("the body did not arrive in time"),
    413: errors.BodyTooLarge("the body is over 67108864 bytes; send fewer items"),
    415: errors.UnsupportedMediaType("send Content-Type: application/json"),
    422: errors.EmptyResponse(
        "the response is empty; there is nothing to score", item=0, response=1
    ),
    500: errors.InternalError("internal error; quote the request id"),
    503: errors.Overloaded("the queue is full"),
}
_MEANINGS = {
    400: "The request is not valid",
    401: "The key is missing or wrong",
    404: "Not on this server",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "Not application/json",
    422: "A text that cannot be scored",
    500: "The server's fault",
    503: "Full, loading or draining: see Retry-After",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` argument of a route for these error statuses."""
    answers: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        error = _EXAMPLES[status]
        example = {
            "type": error.type,
            "message": error.message,
            "item": error.item,
            "response": error.response,
            "retryable": error.retryable,
            "request_id": "9f8e7d6c5b4a3928",
        }
        answers[status] = {
            "model": ErrorEnvelope,
            "description": _MEANINGS[status],
            "content": {"application/json": {"example": {"error": example}}},
        }
        if status == 503:
            answers[status]["headers"] = {
                "Retry-After": {"description": "Whole seconds.", "schema": {"type": "integer"}}
            }
    return answers


SCORING_ERRORS = error_responses(400, 401, 408, 413, 415, 422, 500, 503)
"""The error answers of every route that scores what it is sent."""

_TIMEOUT = {
    "name": "X-Request-Timeout",
    "in": "header",
    "required": False,
    "description": "Seconds that the caller will wait. After that the items are not scored.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 86400, "default": 3600},
}


def _ref(body: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{body.__name__}"}


def json_body(**content: Any) -> dict[str, Any]:
    """The `openapi_extra` argument of a route whose body is JSON: its `schema` and examples."""
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def typed_body(body: type[BaseModel], example: Any) -> dict[str, Any]:
    """`json_body` for a route that reads the bytes of one type."""
    return json_body(schema=_ref(body), example=example)


REWARDS_BODY = {"parameters": [_TIMEOUT], **typed_body(RewardRequest, REQUEST_EXAMPLE)}


def contract_body(contracts: Sequence[Contract[Any]]) -> dict[str, Any]:
    """The body of a trainer's route: the body of any of its contracts."""
    body = json_body(
        schema={"anyOf": [_ref(contract.body) for contract in contracts]},
        examples={contract.client: {"value": contract.example} for contract in contracts},
    )
    return {"parameters": [_TIMEOUT], **body}


def contract_responses(contracts: Sequence[Contract[Any]]) -> dict[int | str, dict[str, Any]]:
    """The answers of a trainer's route."""
    examples = {contract.client: {"value": contract.answer} for contract in contracts}
    scored = {
        "description": "In the order of the request, or sorted if the client expects that.",
        "content": {"application/json": {"schema": {}, "examples": examples}},
    }
    return {200: scored, **SCORING_ERRORS}


def share_errors(paths: dict[str, Any]) -> dict[str, Any]:
    """Replaces error answers by references, and returns each of them once, by status. About twenty
    routes share them."""
    shared: dict[str, Any] = {}
    for operation in (operation for path in paths.values() for operation in path.values()):
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/json", {})
            if content.get("schema") == _ref(ErrorEnvelope):
                shared[f"Error{status}"] = answer
                operation["responses"][status] = {"$ref": f"#/components/responses/Error{status}"}
    return shared


class DescribedApp(FastAPI):
    """FastAPI that adds the request bodies' types and the key to the generated document."""

    bodies: Sequence[type[BaseModel]] = ()

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document["components"]["schemas"]
            for kind in self.bodies:
                body = kind.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= body.pop("$defs", {})
                schemas[kind.__name__] = body
            document["components"]["responses"] = share_errors(document["paths"])
            document["components"]["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The key as password; the user name is ignored.",
                },
            }
            # The empty entry: a server without a key asks for none.
            document["security"] = [{}, {"bearer": []}, {"basic": []}]
            self.openapi_schema = document
        return self.openapi_schema
