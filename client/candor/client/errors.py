"""Every failure a client raises, with a name. A failure is never a number: no 0.0, no None, no NaN.

    ClientError               `type`, `message`; `retryable`: sending the same again can help
    |-- Unreachable           no answer (refused, reset, timed out) within the retry budget
    |-- RewardError           the server answered with an error: status, item, request_id, ...
    |   |-- PermanentError    the same request will fail the same way
    |   +-- RetryableError    it was tried again until the retry budget was spent
    |-- InvalidReply          a 200 that cannot be believed: wrong count, NaN, wrong sums
    |-- ModelChanged          the reply is from other weights than this client's first reply
    |-- WrongModel            the generator does not serve, or did not use, the model asked for
    +-- NotReadyInTime        `wait_ready` ran out of time, or can never succeed

Both clients raise these: the generator's errors are `RewardError`s too, with `type` from its
OpenAI-form body. Invalid arguments are ordinary `ValueError`s, raised before anything is sent.
"""

from __future__ import annotations

from typing import ClassVar


class ClientError(Exception):
    """Root of the tree. `type` is stable and short, for rows and counters; `message` is for
    people."""

    type: str = "client_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Unreachable(ClientError):
    type = "unreachable"
    retryable = True


class RewardError(ClientError):
    """What the server's error envelope says (docs/api.md), or as much as another answer tells.

    Args:
        type: the envelope's `type`; `http_<status>` where the body is not an envelope.
        status: the HTTP status.
        message: the envelope's message, at most 500 characters of another body.
        item: index into the request's `items` where one is to blame.
        response: index into that item's `responses` where one is to blame.
        request_id: what the server's log knows this request by.
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
    retryable = False


class RetryableError(RewardError):
    retryable = True


class InvalidReply(ClientError):
    type = "invalid_reply"


class ModelChanged(ClientError):
    type = "model_changed"


class WrongModel(ClientError):
    type = "wrong_model"


class NotReadyInTime(ClientError):
    type = "not_ready"
