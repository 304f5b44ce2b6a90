"""Every failure the server can name, with the HTTP status that goes with it.

One class is one `type` on the wire; `app.py` turns any of them into the envelope of `docs/api.md`.
Nothing here knows about HTTP beyond the number, and nothing else decides a status.

    CandorError
    |-- InvalidRequest          400   body is not the JSON the API asks for
    |   |-- UnknownProbe        400   `penalties` names a probe that is not served
    |   |-- EmptyResponse       422   a response with no text: a score of nothing does not exist
    |   |-- InvalidMessages     422   the RM's chat template refuses these messages
    |   |-- TooLong             422   context + response exceed the RM's window (see `truncation`)
    |   +-- NonFiniteScore      422   the RM gave NaN or infinity for this text
    |-- Unauthorized            401
    |-- NotFound                404
    |-- MethodNotAllowed        405
    |-- RequestTimeout          408   the body did not arrive in time
    |-- BodyTooLarge            413
    |-- UnsupportedMediaType    415
    |-- InternalError           500   our bug
    |   +-- EngineFailed        500   the forward raised for this item
    |-- Overloaded              503   the queue is full; `Retry-After` says when to come back
    |-- Draining                503   shutting down
    |-- NotReady                503   still loading, or the sentinel score is wrong
    +-- DeadlineExceeded        503   the deadline passed before the forward began

Overload is 503, never 429: verl treats every 4xx as final (research: contracts, section 3).
"""

from __future__ import annotations

from typing import ClassVar


class CandorError(Exception):
    """A named failure.

    Args:
        message: at most a sentence or two; names the field and the fix, never echoes the input.
        item: index into the request's `items`, where one is to blame.
        response: index into that item's `responses`, where one is to blame.
        retry_after_s: whole seconds for the `Retry-After` header (503 only).
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        item: int | None = None,
        response: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.item = item
        self.response = response
        self.retry_after_s = retry_after_s

    def at(self, item: int, response: int | None = None) -> CandorError:
        """The same error, blamed on one item (and response) of the request."""
        return type(self)(
            self.message, item=item, response=response, retry_after_s=self.retry_after_s
        )


class InvalidRequest(CandorError):
    status = 400
    type = "invalid_request"


class UnknownProbe(InvalidRequest):
    type = "unknown_probe"


class EmptyResponse(InvalidRequest):
    status = 422
    type = "empty_response"


class InvalidMessages(InvalidRequest):
    status = 422
    type = "invalid_messages"


class TooLong(InvalidRequest):
    status = 422
    type = "too_long"


class NonFiniteScore(InvalidRequest):
    status = 422
    type = "non_finite_score"


class Unauthorized(CandorError):
    status = 401
    type = "unauthorized"


class NotFound(CandorError):
    status = 404
    type = "not_found"


class MethodNotAllowed(CandorError):
    status = 405
    type = "method_not_allowed"


class RequestTimeout(CandorError):
    status = 408
    type = "request_timeout"
    retryable = True


class BodyTooLarge(CandorError):
    status = 413
    type = "body_too_large"


class UnsupportedMediaType(CandorError):
    status = 415
    type = "unsupported_media_type"


class InternalError(CandorError):
    pass


class EngineFailed(InternalError):
    type = "engine_failed"


class Overloaded(CandorError):
    status = 503
    type = "overloaded"
    retryable = True


class Draining(CandorError):
    status = 503
    type = "draining"
    retryable = True


class NotReady(CandorError):
    status = 503
    type = "not_ready"
    retryable = True


class DeadlineExceeded(CandorError):
    status = 503
    type = "deadline_exceeded"
    retryable = True
