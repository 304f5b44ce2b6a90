"""`Contract`: one client's body type, how the body is read, and how the answer is written.

No client survives a `null` in a list, so a request is scored as a whole or refused. The body of an
error has none of the fields from which clients read rewards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BeforeValidator, FailFast, Field, WithJsonSchema

from candor.client.schema import MAX_ITEMS, Message, Method, Objects
from candor.text.request import Messages, Reply, reply_of
from candor.trainers.fields import Body
from candor.trainers.options import TrainerRoutes

Texts = Annotated[list[str], FailFast(), Field(max_length=MAX_ITEMS)]
MaybeTexts = Annotated[list[str] | None, FailFast(), Field(max_length=MAX_ITEMS)]
Turns = Annotated[list[Message], FailFast(), Field(min_length=1)]
MaybeTurns = Annotated[list[Message] | None, FailFast(), Field(min_length=1)]
"""A conversation, in the one form that every route takes."""
MaybeTools = Objects
"""The tools of a conversation, for the chat template."""


@dataclass(frozen=True, slots=True)
class Flat:
    """One templated text (or its token ids) that holds prompt and response."""

    text: str | list[int]
    prompt: str | None = None
    """The start of the text, if the caller sent it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A context and its responses, as separate texts. See `candor.text.turns.from_pair`."""

    context: str | Messages
    responses: Sequence[Reply]


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """The texts of a body, and what it expects of the server.

    Attributes:
        truncation: None leaves it to the server's setting.
        chat_template: the template that the body expects, which must be the served one.
        special_tokens: whether the body asks that the tokeniser adds its BOS to each text.
    """

    texts: Sequence[Flat | Pair]
    truncation: Literal["error", "left"] | None = None
    chat_template: str | None = None
    special_tokens: bool | None = None


@dataclass(frozen=True, slots=True)
class ContractAnswer:
    """The data from which a contract writes its answer."""

    responses: list[dict[str, Any]]
    """`ResponseReward`s as dicts, in the order of the body. On `/tokenize` their tokens instead."""
    methods: Mapping[str, Method]
    """How each penalised probe is used, by name; monitors are not in it."""
    model: str
    request_id: str
    created: int
    max_length: int
    """The model's window in tokens."""
    settings: TrainerRoutes

    @property
    def probes(self) -> tuple[str, ...]:
        """Names of the penalised probes."""
        return tuple(self.methods)

    @property
    def parts(self) -> tuple[str, ...]:
        """The fields of a response that are one number beside its reward: the same in every answer
        of a server, also without responses."""
        used = self.methods.values()
        extra = {"advantage_penalty": "advantage" in used, "screened": "screen" in used}
        return ("base_reward", "penalty", *(name for name, answered in extra.items() if answered))

    @property
    def rewards(self) -> list[float]:
        return [response["reward"] for response in self.responses]

    @property
    def num_tokens(self) -> int:
        return sum(response["num_tokens"] for response in self.responses)

    def values(self, activation: bool | None) -> list[float]:
        """The rewards, through the sigmoid if `activation` and the server's setting both ask for
        it."""
        if activation and self.settings.activation == "asked":
            return [sigmoid(reward) for reward in self.rewards]
        return self.rewards


@dataclass(frozen=True, slots=True)
class AnswerBytes:
    """The bytes of an answer. A contract writes one itself where its answer is not JSON."""

    content: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class Contract(Generic[B]):
    """One client's format of body and answer.

    Args:
        client: the client's name, for error messages and docs.
        needs: the contract applies if the body has all of these fields, or all of `or_needs`.
        read: reads the body. Raises ValueError for faults that the types do not catch; the message
            names the field and the fix.
        write: writes the answer: what JSON is made of, or a `AnswerBytes`.
        example, answer: for the OpenAPI document; tests check them against a running server.
    """

    client: str
    body: type[B]
    needs: frozenset[str]
    read: Callable[[B], ScoreCall]
    write: Callable[[B, ContractAnswer], Any]
    example: Any
    answer: Any
    or_needs: frozenset[str] | None = None

    def fits(self, body: Mapping[str, Any]) -> bool:
        return self.needs <= body.keys() or (
            self.or_needs is not None and self.or_needs <= body.keys()
        )


def text_inputs(value: object) -> list[str | list[int]]:
    """vLLM's and OpenAI's `input`: a text, a list of texts, token ids, or a list of token ids."""
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

ONE_LABEL = "LABEL_0"
"""The label that vLLM and TEI answer for a model with one label."""


def pair_from_messages(turns: Sequence[Message], tools: MaybeTools = None) -> Pair:
    """The context and the response in messages that end with the response."""
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise ValueError("'messages' must end with the assistant's turn: the response to score")
    return Pair(Messages.of(turns[:-1], tools), [reply_of(turns[-1])])


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    grown = math.exp(value)
    return grown / (1.0 + grown)
