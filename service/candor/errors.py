"""Every error that the server answers, with its HTTP status.

Each class is one `type` on the wire. `candor.http.edge` turns an error into the envelope of
`docs/api.md`. No other module chooses a status, and this module knows nothing else about HTTP.

    CandorError
    |-- InvalidRequest          400   body is not the JSON the API asks for
    |   |-- UnknownProbe        400   `penalties` names a probe that is not served
    |   |-- EmptyResponse       422   the response has no text to score
    |   |-- InvalidMessages     422   the RM's chat template refuses these messages
    |   |-- TooLong             422   context + response exceed the RM's window (see `truncation`)
    |   +-- NonFiniteScore      422   the RM gave NaN or infinity for this text
    |-- Unauthorized            401
    |-- NotFound                404
    |-- MethodNotAllowed        405
    |-- RequestTimeout          408   the body did not arrive in time
    |-- BodyTooLarge            413
    |-- UnsupportedMediaType    415
    |-- InternalError           500   a bug in the server
    |   +-- EngineFailed        500   the forward raised for this item
    |-- Overloaded              503   the queue is full or the wait too long; see `Retry-After`
    |-- Draining                503   shutting down
    |-- NotReady                503   still loading, or the sentinel score is wrong
    +-- DeadlineExceeded        503   the deadline passed before the forward began

Overload is 503, never 429, because verl treats every 4xx as final (docs/decisions.md).
"""

from __future__ import annotations

from typing import ClassVar

MAX_REASON = 300
"""Characters of an error that another library raised. Its message may quote a user's text."""


def reason_of(error: BaseException) -> str:
    """Why `error` was raised, in one line for an operator: its kind and the first line of its
    message, or of its cause's where it has none. Never for a caller over HTTP."""
    at: BaseException | None = error
    line = ""
    while at is not None and not line:
        text = at.strerror or str(at) if isinstance(at, OSError) else str(at)
        line = next((line.strip() for line in text.splitlines() if line.strip()), "")
        at = at.__cause__ or at.__context__
    return f"{type(error).__name__}: {line}".removesuffix(": ")[:MAX_REASON]


class CandorError(Exception):
    """An error with a `type` and a status.

    Args:
        message: one or two sentences. Names the field and the fix, and never echoes the input.
        item: index into the request's `items`, if one item caused the error.
        response: index into that item's `responses`, if one response caused the error.
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
        """The same error, at the given item (and response) of the request."""
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
