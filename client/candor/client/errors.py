"""Every failure that a client raises. A failure is never a number: no 0.0, no None, no NaN.

    ClientError               `type`, `message`; `retryable`: the same request can succeed later
    |-- Unreachable           no answer (refused, reset, timed out) within the retry budget
    |-- RewardError           the server answered with an error: status, item, request_id, ...
    |   |-- PermanentError    the same request will fail the same way
    |   +-- RetryableError    the request was repeated until the retry budget was spent
    |-- InvalidReply          a reply of status 200 that is wrong: wrong count, NaN, wrong sums
    |-- ModelChanged          the reply is from other weights than this client's first reply
    |-- WrongModel            the chat server does not serve, or did not use, the named model
    |-- NotReadyInTime        `wait_ready` ran out of time, or can never succeed
    +-- Unscorable            the row is not a context and a response (`candor.client.rows`)

The reward clients and the generator client raise these. An error answer of the chat server is a
`RewardError` too, with the `type` of its body in OpenAI's form. Invalid arguments are
`InvalidArguments`, a `ValueError`, raised before anything is sent.
"""

from __future__ import annotations

from typing import ClassVar


class InvalidArguments(ValueError):
    """What a caller asked for has the wrong form; nothing was sent. The message names the field and
    the fix, and does not repeat the texts."""


class ClientError(Exception):
    """Root of the tree.

    Attributes:
        type: short and stable, for rows and counters.
        message: one sentence or two for people.
        retryable: whether the same request can succeed later.
    """

    type: str = "client_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Unreachable(ClientError):
    """No answer within the retry budget."""

    type = "unreachable"
    retryable = True


class RewardError(ClientError):
    """An error answer of the server (docs/api.md), or of a proxy in between.

    Args:
        type: `type` of the server's error; `http_<status>` for another body.
        status: HTTP status.
        message: message of the server's error, or at most 500 characters of another body.
        item: index into the request's `items`, where the error is about an item.
        response: index into that item's `responses`, where the error is about a response.
        request_id: id of this request in the server's log.
        retry_after_s: seconds from an integer `Retry-After` header.
    """

    def __init__(
        self,
        type: str,
        status: int,
        message: str,
        *,
        item: int | None = None,
        response: int | None = None,
        request_id: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.type = type
        self.status = status
        self.item = item
        self.response = response
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        where = "" if self.item is None else f" (item {self.item}"
        if where:
            where += ")" if self.response is None else f", response {self.response})"
        request = "" if self.request_id is None else f" [request {self.request_id}]"
        return f"{self.status} {self.type}: {self.message}{where}{request}"


class PermanentError(RewardError):
    """The same request will fail the same way."""

    retryable = False


class RetryableError(RewardError):
    """The request was repeated until the retry budget was spent."""

    retryable = True


class InvalidReply(ClientError):
    """A reply of status 200 that is wrong; no number of it is used."""

    type = "invalid_reply"


class ModelChanged(ClientError):
    """The reply is from another model or other weights than this client's first reply."""

    type = "model_changed"


class WrongModel(ClientError):
    """The chat server does not serve, or did not use, the named model."""

    type = "wrong_model"


class NotReadyInTime(ClientError):
    """The server did not become ready in time, or never will."""

    type = "not_ready"
