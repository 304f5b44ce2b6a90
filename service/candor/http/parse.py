"""Body bytes to `RewardRequest`, or the first thing that is wrong with them, said in one line.

Only the first: a stock model lists every fault and echoes the input, 51 times the request's size.
"""

from __future__ import annotations

from pydantic import ValidationError

from candor.client.schema import RewardRequest
from candor.invalid import first_fault


def parse(body: bytes) -> RewardRequest:
    """The request.

    Strict: a number in quotes is no number. NaN, Infinity, lone surrogates and bytes that are not
    UTF-8 are no JSON.

    Raises:
        InvalidRequest: names the place. Values are never repeated, and a field's name only if it is
            short and plain.
    """
    try:
        return RewardRequest.model_validate_json(body, strict=True)
    except ValidationError as error:
        fault = first_fault(error)
    raise fault
