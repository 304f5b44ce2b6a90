"""What a caller sends: the body of `POST /v1/rewards`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, FailFast, Field, model_validator

from candor.client.schema.message import Finite, Message, Objects, Wire

MAX_RESPONSES = 4096
"""Responses in one item."""

MAX_ITEMS = 16_384
"""Items in one request, and responses over all items of one request."""

MAX_PENALTIES = 64
"""Probe names in `penalties`."""


def text_or_message(value: object) -> object:
    """Validates a response. (A pydantic union would report the errors of both types.)"""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict | Message):
        raise ValueError("must be a text, or an assistant's message")
    message = Message.model_validate(value)
    if message.role != "assistant":
        raise ValueError("'role' of a response must be assistant")
    return message


Reply = Annotated[str | Message, BeforeValidator(text_or_message)]
"""A response: its text, or an assistant's message where it is more than text (tool calls)."""


class RewardItem(Wire):
    """One context with the responses to score: exactly one of `messages` and `prompt`."""

    messages: Annotated[list[Message] | None, FailFast(), Field(min_length=1)] = Field(
        None, description="The conversation so far; the RM's chat template is applied to it."
    )
    tools: Objects = Field(
        None, description="The tools of the conversation, for the chat template. With `messages`."
    )
    prompt: str | None = Field(
        None, description="Text with the chat template already applied; used as it is."
    )
    templated: bool | None = Field(
        None,
        description="true: the `prompt` is meant as it is, although it holds no assistant turn of "
        "the RM's chat template. Otherwise such a prompt is refused.",
    )
    responses: Annotated[list[Reply], FailFast(), Field(min_length=1, max_length=MAX_RESPONSES)] = (
        Field(description="Texts, or assistant's messages where a response has tool calls.")
    )

    @model_validator(mode="after")
    def one_context(self) -> RewardItem:
        refuse_wrong_context(self)
        return self


def refuse_wrong_context(item: RewardItem) -> None:
    """Raises ValueError unless the item has one context, and fields that go with it."""
    if (item.messages is None) == (item.prompt is None):
        raise ValueError("give exactly one of 'messages' and 'prompt'")
    if item.prompt is None and item.templated:
        raise ValueError("'templated' goes with 'prompt'; 'messages' get the template here")
    if item.prompt is not None:
        if item.tools:
            raise ValueError("'tools' goes with 'messages'; a 'prompt' is templated already")
        if not all(isinstance(response, str) for response in item.responses):
            raise ValueError("the 'responses' to a 'prompt' must be texts")


class ClosedForm(Wire):
    """lambda computed from the item's own responses: the least lambda that removes the tilt of R
    towards flagged responses.

    A response is flagged where S > threshold. Among the item's responses, lambda is
    max(0, log(m1 / m0) / beta), m_a = mean exp(beta * R) of the flagged (a = 1) and the others, and
    the penalty is lambda for the flagged and 0 for the others (arXiv 2602.01002). Where either
    class is missing, as with a single response, lambda is 0.
    """

    beta: Finite = Field(
        gt=0, description="Strength of the optimiser: an inverse temperature, 1 / reward units."
    )
    threshold: Finite | None = Field(
        None,
        description="Logits. Default: the reference of the card's hinge, or without a hinge the "
        "median S of its calibration.",
    )


class PenaltyOverride(Wire):
    """Strength of one probe's penalty in this request: exactly one of the three fields."""

    lambda_: Finite | None = Field(
        None, alias="lambda", ge=0, description="Reward units per logit; 0 switches the probe off."
    )
    kappa: Finite | None = Field(
        None,
        ge=0,
        description="lambda * std(bound(S)) / std(R), both within prompt, from the probe's card.",
    )
    closed_form: ClosedForm | None = None

    @model_validator(mode="after")
    def one_strength(self) -> PenaltyOverride:
        if [self.lambda_, self.kappa, self.closed_form].count(None) != 2:
            raise ValueError("give exactly one of 'lambda', 'kappa' and 'closed_form'")
        return self


def few_penalties(value: object) -> object:
    """Refuse too many names before the names are checked: a dict has no `FailFast`, and reporting
    16 MiB of wrong names would take seconds and a gigabyte."""
    if isinstance(value, dict) and len(value) > MAX_PENALTIES:
        raise ValueError(f"name at most {MAX_PENALTIES} probes")
    return value


class RewardRequest(Wire):
    """Body of `POST /v1/rewards`."""

    items: Annotated[list[RewardItem], FailFast(), Field(min_length=1, max_length=MAX_ITEMS)]
    penalties: Annotated[dict[str, PenaltyOverride], BeforeValidator(few_penalties)] = Field(
        default_factory=dict,
        max_length=MAX_PENALTIES,
        description="Overrides of the served penalties, by probe name.",
    )
    include: Annotated[list[Literal["tokens", "text"]], FailFast()] = Field(
        default_factory=list,
        description="`tokens` adds per-token probe logits, `text` the templated text that the "
        "model read.",
    )
    truncation: Literal["error", "left"] = Field(
        "error",
        description="For text over the RM's window: refuse it, or drop the oldest context tokens. "
        "The response is always kept whole.",
    )
    empty_response: Literal["error", "score"] | None = Field(
        None,
        description="For a response without a token: refuse it (the default), or give the R of the "
        "empty turn and a penalty of 0.",
    )
