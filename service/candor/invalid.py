"""The first of pydantic's errors as an `InvalidRequest`.

Only the first, because pydantic's own list of errors echoes the input and can grow to 51 times the
size of the request.
"""

from __future__ import annotations

import re

from pydantic import ValidationError

from candor.errors import InvalidRequest

MAX_LISTED_FAULTS = 1000
"""A body with more faults gets a general message, because listing the faults is expensive."""

MAX_OBJECTS = 131_072
"""JSON objects in a body: items, messages, parts. Each costs microseconds before the queue can
refuse the request."""

_OBJECT = re.compile(rb'\{\s*"')
"""The start of an object. Inside a text the quote would be escaped."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def refuse_many_objects(body: bytes) -> None:
    """Refuses a body of more objects than `MAX_OBJECTS`, before it is parsed.

    Raises:
        InvalidRequest: it has more.
    """
    if body.count(b"{") > MAX_OBJECTS and len(_OBJECT.findall(body)) > MAX_OBJECTS:
        raise InvalidRequest(
            f"the body has more than {MAX_OBJECTS} items, messages and parts: send several requests"
        )


def first_fault_as_error(error: ValidationError) -> InvalidRequest:
    """The first of pydantic's errors in Candor's wording."""
    if error.error_count() > MAX_LISTED_FAULTS:
        return InvalidRequest(f"more than {MAX_LISTED_FAULTS} faults in the body")
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return _fault(first["loc"], first["msg"], first["type"])


def _fault(place: tuple[int | str, ...], message: str, kind: str) -> InvalidRequest:
    """One pydantic error in Candor's wording: `items[3].responses[1]: must be a valid string`."""
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    message = {"extra_forbidden": "unknown field", "missing": "is required"}.get(kind, message)
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step if _PLAIN_NAME.fullmatch(step) else '(name)'}"
    item = place[1] if len(place) > 1 and place[0] == "items" else None
    response = place[3] if len(place) > 3 and place[2] == "responses" else None
    return InvalidRequest(
        f"{path.lstrip('.')}: {message}" if path else message,
        item=item if isinstance(item, int) else None,
        response=response if isinstance(response, int) else None,
    )
