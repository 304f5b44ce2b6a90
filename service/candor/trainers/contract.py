"""What a contract is: the body it takes, what that asks for, and the answer in its own words.

Fields that a contract does not know are ignored, as the servers it stands in for do; those that
would change the numbers are read, and refused where they cannot be honoured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, WithJsonSchema

from candor.client.schema import MAX_ITEMS, Role
from candor.text.request import Messages
from candor.trainers.options import TrainerRoutes


class Body(BaseModel):
    """Strict about types, forgiving about names."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class TurnBody(Body):
    """A message, of which the role and the text are read."""

    role: Role
    content: str


Texts = Annotated[list[str], FailFast(), Field(max_length=MAX_ITEMS)]
MaybeTexts = Annotated[list[str] | None, FailFast(), Field(max_length=MAX_ITEMS)]
MaybeTurns = Annotated[list[TurnBody] | None, FailFast(), Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Flat:
    """One templated text (or its token ids) that holds prompt and response."""

    text: str | list[int]
    prompt: str | None = None
    """What the text begins with, if the caller said."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A context and its responses, given apart. See `candor.text.turns.from_pair`."""

    context: str | Messages
    responses: Sequence[str]


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """What a body asks to score. Without a truncation of its own, the server's setting holds."""

    texts: Sequence[Flat | Pair]
    truncation: Literal["error", "left"] | None = None


@dataclass(frozen=True, slots=True)
class ContractAnswer:
    """What a contract answers from."""

    responses: list[dict[str, Any]]
    """`ResponseReward`s as dicts, in the order asked."""
    probes: tuple[str, ...]
    """Names of the served probes that are no monitors."""
    model: str
    request_id: str
    created: int
    settings: TrainerRoutes

    @property
    def rewards(self) -> list[float]:
        return [response["reward"] for response in self.responses]

    @property
    def num_tokens(self) -> int:
        return sum(response["num_tokens"] for response in self.responses)


B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class Contract(Generic[B]):
    """One shape of body and answer.

    Args:
        client: whose shape it is, for error messages and docs.
        needs: the shape is chosen where the body has all of these fields, or `or_needs`.
        read: raises ValueError for what the types cannot say; the message names field and fix.
        example, answer: for the OpenAPI document; tests hold them to the running server.
    """

    client: str
    body: type[B]
    needs: frozenset[str]
    read: Callable[[B], ScoreCall]
    write: Callable[[B, ContractAnswer], Any]
    example: Any
    answer: Any
    or_needs: frozenset[str] | None = None

    def fits(self, body: dict[str, Any]) -> bool:
        return self.needs <= body.keys() or (
            self.or_needs is not None and self.or_needs <= body.keys()
        )


def text_inputs(value: object) -> list[str | list[int]]:
    """vLLM's and OpenAI's `input`: a text, a list of texts, token ids, or a list of them."""
    if isinstance(value, str) or (
        isinstance(value, list) and value and all(type(part) is int for part in value)
    ):
        value = [value]
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ITEMS:
        raise ValueError(f"must be a text, token ids, or a list of 1 to {MAX_ITEMS} of either")
    for number, part in enumerate(value):
        ids = isinstance(part, list) and part and all(type(token) is int for token in part)
        if not (isinstance(part, str) or ids):
            raise ValueError(f"number {number} is neither a text nor a list of token ids")
    return value


INPUTS = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}},
            {"type": "array", "items": {"type": "integer"}},
            {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        ]
    }
)
Inputs = Annotated[list[str | list[int]], BeforeValidator(text_inputs), INPUTS]


def answered(turns: Sequence[TurnBody]) -> Pair:
    """Messages that end with the response."""
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise ValueError("'messages' must end with the assistant's turn: it is what is scored")
    return Pair(Messages.of(turns[:-1]), [turns[-1].content])


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    grown = math.exp(value)
    return grown / (1.0 + grown)


def activated(rewards: Sequence[float], wanted: bool | None) -> list[float]:
    """The rewards, through the sigmoid only where the body asks for it."""
    return [sigmoid(reward) for reward in rewards] if wanted else list(rewards)
