"""What a field of a trainer's body may be. Every field is one of three things, and the body's type
says which.

- A field that the contract reads is honoured.
- A field that can change neither a reward nor the form of the answer is `Harmless`.
- A field that would change one of them, and that Candor cannot honour, is `Refused`, unless its
  value asks for what Candor does anyway.

A field that the type does not have is refused too, because nobody knows what it would change. A
`null` counts as an absent field. docs/trainers/fields.md has the lists of every route.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

MAX_FIELDS = 64
"""Fields of one body. A body with more is refused before its fields are checked, because every
unknown field costs an error object."""


class Body(BaseModel):
    """A request body. Types are strict; fields that are not declared are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Harmless:
    """Marks a field of a `Body` that can change neither a reward nor the form of the answer. Every
    value is accepted.

    Args:
        why: the reason, for docs and for the OpenAPI document.
    """

    why: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"description": f"Accepted, without effect: {self.why}."}


@dataclass(frozen=True, slots=True)
class Refused:
    """Marks a field of a `Body` that would change a reward or the form of the answer.

    Args:
        why: why the server cannot honour it, and what to do instead.
        neutral: values that ask for what the server does anyway. They are accepted.
    """

    why: str
    neutral: tuple[Any, ...] = ()

    def check(self, value: object) -> None:
        if not any(type(value) is type(same) and value == same for same in self.neutral):
            raise ValueError(self.message())

    def message(self) -> str:
        accepted = [*(orjson.dumps(value).decode() for value in self.neutral), "absent"]
        return f"must be {' or '.join(accepted)}: {self.why}"

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"enum": [None, *self.neutral], "description": f"Not honoured: {self.why}."}


Model = Annotated[Any, Harmless("one model is served, and the answer names it")]
User = Annotated[Any, Harmless("it names the caller")]
Priority = Annotated[Any, Harmless("it orders work")]
Label = Annotated[Any, Harmless("a reward model does not read it")]
Lora = Annotated[Any, Refused("adapters are not chosen by request; serve the merged model")]
Dimensions = Annotated[Any, Refused("a reward is one number", (1,))]
Media = Annotated[Any, Refused("this server scores text only", ([], {}))]
Vectors = Annotated[Any, Refused("this server takes texts and token ids, not vectors", ([],))]
