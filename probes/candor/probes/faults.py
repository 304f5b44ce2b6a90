"""`first_fault`: the first of pydantic's errors in one line."""

from __future__ import annotations

from pydantic import ValidationError


def first_fault(error: ValidationError, whole: str) -> str:
    """The first error as `field: reason`, without the value.

    Args:
        whole: the name that stands for the field where an error belongs to no field.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or whole
    return f"{field}: {first['msg']}"
