"""Whether a Candor server answers at an address, which model it serves, and when it is ready."""

from __future__ import annotations

import time
from typing import Any

import httpx2
from pydantic import ValidationError

from candor.client.errors import ClientError, InvalidReply, NotReadyInTime
from candor.client.retry import Waiting, error_body, error_of, shown, unreachable
from candor.client.schema import ModelInfo

READY_POLL_S = 0.25


def json_object(response: httpx2.Response) -> dict[str, Any]:
    """The body as JSON.

    Raises:
        InvalidReply: it is not a JSON object.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise InvalidReply(f"{shown(response.url)} did not answer with a JSON object")
    return body


def check_readiness(response: httpx2.Response) -> None:
    """Raises InvalidReply where a reply of status 200 to `/readyz` is not Candor's."""
    if json_object(response).get("status") != "ready":
        raise InvalidReply(f"{shown(response.url)} is not the answer of a Candor server")


def served_model(response: httpx2.Response) -> ModelInfo:
    """The model in an answer of `/v1/models`.

    Raises:
        InvalidReply: another service's answer.
    """
    try:
        return ModelInfo.model_validate(json_object(response)["data"][0], extra="ignore")
    except (KeyError, IndexError, TypeError, ValidationError):
        raise InvalidReply(f"{shown(response.url)} is not the answer of a Candor server") from None


class ReadinessWait:
    """The answers that `wait_ready` has seen so far."""

    def __init__(self, request: httpx2.Request, timeout_s: float, waiting: Waiting) -> None:
        self.request = request
        self.timeout_s = timeout_s
        self.waiting = waiting
        self.began = time.monotonic()

    def wait_s(self, answer: httpx2.Response | httpx2.TransportError) -> float | None:
        """Seconds until the server is asked again, by its newest answer; None if it is ready.

        Raises:
            NotReadyInTime: time is up, or the answer (404, `failed`) will not change.
            InvalidReply: another service answers.
        """
        failure: ClientError
        if isinstance(answer, httpx2.TransportError):
            said = f"no connection, {type(answer).__name__}"
            failure = unreachable(self.request, answer)
        elif answer.is_success:
            check_readiness(answer)
            self.waiting.over(self.request)
            return None
        else:
            body = error_body(answer)
            failure = error_of(answer)
            said = str(failure)
            if "status" in body:
                said = f"{body['status']}, {body.get('reason')}"
                failure = ClientError(f"{shown(self.request.url)} is not ready: {said}")
            if answer.status_code < 500 or body.get("status") == "failed":
                raise self._error("will not become ready", said)
        left = self.began + self.timeout_s - time.monotonic()
        if left <= 0:
            raise self._error("is not ready", said)
        self.waiting.say(failure, left)
        return min(READY_POLL_S, left)

    def _error(self, verdict: str, said: str) -> NotReadyInTime:
        elapsed = time.monotonic() - self.began
        return NotReadyInTime(f"{shown(self.request.url)} {verdict} after {elapsed:.1f} s: {said}")
