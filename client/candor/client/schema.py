"""The types of Candor's own API: request and answer of `POST /v1/rewards` (docs/api.md).

The module imports nothing but pydantic, so that a trainer's environment can use it. The client
parses answers with these classes. The server parses requests with them, strictly, and stops at the
first error in a list (`FailFast`): by default pydantic reports and repeats every wrong item, which
makes an answer 51 times as long as the request.

Unknown fields are refused: a mistyped `penaltys` that is ignored would be a wrong reward.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from candor.client.notebook.html import as_html
from candor.client.notebook.table import data_frame, table_rows

MAX_RESPONSES = 4096
"""Responses in one item."""

MAX_ITEMS = 16_384
"""Items in one request, and responses over all items of one request."""

MAX_VALUES = 65_536
"""Values in the tools of an item, or in the tool calls of a message."""

MAX_PENALTIES = 64
"""Probe names in `penalties`."""

Method = Literal["subtract", "project", "screen", "advantage"]
"""How a probe is used (docs/api.md)."""

Role = Literal["system", "developer", "user", "assistant", "tool"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Wire(BaseModel):
    """Base of all types: unknown fields are refused, and error messages do not repeat the input."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
"""Types of a part that is text, in OpenAI's chat and responses APIs."""

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Names of what the assistant thought: of DeepSeek and vLLM, of newer vLLM, of gpt-oss."""

OTHER_FIELDS = ("name", "tool_calls", "tool_call_id", *REASONING_FIELDS)
"""Fields of a message beside its role and its content."""


class TextPart(Wire):
    """A piece of a message's text. The three types mean the same."""

    type: Literal["text", "input_text", "output_text"] = "text"
    text: str


def text_or_parts(value: object) -> object:
    """Refuses a content that is not text, by the type of the first such part."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("must be a text, a list of text parts, or null")
    if not value:
        raise ValueError("must have at least one part")
    parts: list[TextPart] = []
    for number, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
        if kind not in TEXT_PARTS:
            named = f"a part of type {kind}" if _is_plain(kind) else "not a text part"
            raise ValueError(f"number {number} is {named}; the reward model reads text parts only")
        try:
            parts.append(TextPart.model_validate(part, strict=True))
        except ValidationError:
            raise ValueError(f"number {number} must have 'type' and 'text' only") from None
    return parts


def _is_plain(name: object) -> bool:
    """Whether an error message may repeat this name."""
    return isinstance(name, str) and len(name) <= 64 and name.isascii() and name.isidentifier()


def finite_objects(value: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Refuses empty objects and numbers that JSON does not have."""
    if not all(value or ()):
        raise ValueError("an object in the list is empty")
    waiting: list[Any] = list(value or ())
    num_seen = 0
    while waiting:
        num_seen += 1
        if num_seen > MAX_VALUES:
            raise ValueError(f"has more than {MAX_VALUES} values")
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, float) and not math.isfinite(part):
            raise ValueError("must be JSON with finite numbers")
    return value


Objects = Annotated[list[dict[str, Any]] | None, FailFast(), AfterValidator(finite_objects)]
"""JSON objects that the chat template reads as they are, in the order of their fields."""

Content = Annotated[str | list[TextPart] | None, BeforeValidator(text_or_parts)]


class Message(BaseModel):
    """One turn of a conversation, in OpenAI's form. The RM's own chat template reads every field.

    A field whose value is null, or a list without elements, counts as absent. Any other field is
    refused by its name: without it the text would be another one.
    """

    # `allow` and not `forbid`: OpenAI's own client writes fields like `refusal: null`.
    model_config = ConfigDict(
        extra="allow",
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra={"additionalProperties": False},
    )

    role: Role
    content: Content = Field(
        None, description="Text or text parts. null or absent is allowed for the assistant only."
    )
    name: str | None = Field(None, description="Name of the speaker, or of the tool that answers.")
    tool_calls: Objects = Field(None, description="The assistant's calls, in OpenAI's form.")
    tool_call_id: str | None = Field(None, description="The call that a tool's message answers.")
    reasoning_content: str | None = Field(
        None, description="What the assistant thought before its content."
    )
    reasoning: str | None = Field(None, description="The same, by vLLM's newer name.")
    thinking: str | None = Field(None, description="The same, as gpt-oss's template names it.")

    @model_validator(mode="after")
    def known_and_complete(self) -> Message:
        for name, value in (self.__pydantic_extra__ or {}).items():
            if value is not None and value != []:
                raise ValueError(f"unknown field '{name if _is_plain(name) else '(name)'}'")
        if self.role != "assistant":
            if self.content is None:
                raise ValueError("'content' is required for this role")
            if self.tool_calls:
                raise ValueError("'tool_calls' belongs in an assistant's message")
        return self

    @property
    def text(self) -> str | tuple[str, ...] | None:
        """The content: a text, the texts of its parts, or None."""
        if isinstance(self.content, list):
            return tuple(part.text for part in self.content)
        return self.content

    @property
    def others(self) -> dict[str, Any]:
        """The fields beside `role` and `content` that say something, as they were sent."""
        values = {name: getattr(self, name) for name in OTHER_FIELDS}
        return {name: value for name, value in values.items() if value not in (None, [])}

    def as_sent(self) -> dict[str, Any]:
        """The message for another server: only the fields that say something."""
        content = self.content
        if isinstance(content, list):
            content = [part.model_dump() for part in content]  # type: ignore[misc]
        return {"role": self.role, "content": content, **self.others}


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


class ProbeReading(Wire):
    """The score of one probe on one response."""

    score: float = Field(description="S: the pooled logit; positive = more of the trait.")
    bounded: float = Field(
        description="bound(S), what lambda multiplies; under `closed_form` and the method `screen` "
        "1 if flagged, else 0."
    )
    mean: float = Field(description="Mean of the response's token logits.")
    max: float = Field(description="Maximum of the response's token logits.")
    lambda_: float = Field(alias="lambda", description="The strength used in this answer.")

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Token(Wire):
    """One response token. `start` and `end` are character offsets into the response."""

    id: int
    text: str
    start: int
    end: int
    probes: dict[str, float]


class ReadText(Wire):
    """The templated text of one response and its tokens, as the model read them."""

    text: str = Field(description="The whole text, with the chat template applied.")
    start: int = Field(description="Where the response begins in `text`, in characters.")
    end: int = Field(description="Where it ends.")
    dropped: tuple[int, int] | None = Field(
        description="The characters of `text` that the model did not read (truncation `left`)."
    )
    token_ids: list[int] = Field(description="What the model read; R is read at the last one.")
    offsets: list[tuple[int, int]] = Field(
        description="The span of each token in `text`, in characters; empty for a token that the "
        "tokeniser adds."
    )
    num_response_tokens: int = Field(description="Tokens that the probes pool.")


PARTS = ("base_reward", "penalty", "advantage_penalty", "screened")
"""Fields of a response that are one number, beside its reward."""


class ResponseReward(Wire):
    """One scored response. `reward == base_reward - penalty`, exactly as returned."""

    reward: float
    base_reward: float = Field(
        description="R; of the projected model where a probe's method is `project`."
    )
    penalty: float
    advantage_penalty: float | None = Field(
        None,
        description="lambda * bound(S) of the probes whose method is `advantage`, which is not in "
        "`penalty`. Absent where no probe has this method.",
    )
    screened: bool | None = Field(
        None,
        description="Whether a probe whose method is `screen` flagged the response. Absent where "
        "no probe has this method.",
    )
    probes: dict[str, ProbeReading]
    num_tokens: int = Field(description="Tokens of context and response together.")
    truncated: bool
    tokens: list[Token] | None = None
    text: ReadText | None = None

    @property
    def parts(self) -> dict[str, float]:
        """The numbers beside the reward, for a trainer's log: `base_reward`, `penalty`, and where
        they are answered `advantage_penalty` and `screened` (1.0 or 0.0)."""
        values = {name: getattr(self, name) for name in PARTS}
        return {name: float(value) for name, value in values.items() if value is not None}


class RewardResult(Wire):
    """The scored responses of one item, in the order of the request."""

    index: int
    best: int = Field(description="Index of the highest reward; the first of equals.")
    responses: list[ResponseReward]


class Combine(Wire):
    """How the terms lambda * bound(S) of the probes whose lambda is above 0 make one penalty.

    `sum`; `max`; or `spread`: mean + spread_weight * population standard deviation.
    """

    kind: Literal["sum", "max", "spread"] = "sum"
    spread_weight: Annotated[Finite, Field(ge=0)] = Field(1.0, description="Read by `spread`.")


class ProbeVersion(Wire):
    """Which version of a probe answered."""

    version: int = Field(description="1 as trained, one more with each refresh.")
    sha256: str = Field(description="Hash of the probe's weights and card.")


class ModelInfo(Wire):
    """The reward model (RM) that answered, and the formula of the reward."""

    id: str
    revision: str = Field(description="sha256 over the weights files.")
    engine: str
    formula: str
    combine: Combine = Field(default_factory=Combine)
    methods: dict[str, Method] = Field(
        default_factory=dict,
        description="How each probe is used, by name. A probe that is not named is subtracted.",
    )
    probes_sha256: str | None = Field(
        None,
        description="Hash of the served probes and their default lambdas. It changes when the "
        "operator replaces a probe; a request is answered by one set as a whole.",
    )
    probes: dict[str, ProbeVersion] = Field(
        default_factory=dict, description="The version of each probe that answered, by name."
    )


class Usage(Wire):
    """Number of tokens in the request, computed in the forward pass, and not computed because
    responses share contexts."""

    num_tokens: int
    num_computed_tokens: int
    num_shared_tokens: int


class Timings(Wire):
    """Seconds that the request waited for the model and spent in the model (the longest over its
    items)."""

    queue_s: float
    forward_s: float


class RewardWarning(Wire):
    """What a caller should know about a request that was scored all the same.

    `item` and `response` are the first that it is about; the others have no warning of their own.
    """

    type: str
    message: str
    item: int
    response: int


class RewardResponse(Wire):
    """Body of the answer to `POST /v1/rewards`."""

    model: ModelInfo
    results: list[RewardResult]
    usage: Usage
    timings: Timings
    warnings: list[RewardWarning] = Field(default_factory=list)

    _request: RewardRequest | None = PrivateAttr(None)
    """What was asked, for the texts in tables; the clients set it. It is not on the wire."""

    @property
    def rewards(self) -> list[list[float]]:
        """The rewards alone: one list per item, one number per response, in the request's order."""
        return [[scored.reward for scored in result.responses] for result in self.results]

    def rows(self) -> list[dict[str, Any]]:
        """One row per response; `candor.client.notebook.table` lists the columns."""
        return table_rows(self.results, self._request)

    def to_pandas(self) -> Any:
        """`rows` as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        return data_frame(self.rows())

    def _repr_html_(self) -> str:
        """A table for notebooks: each item's responses, the best first."""
        return as_html(self.rows(), self.model.formula)


class ErrorDetail(Wire):
    """What went wrong, at which item and response, and whether the same request can succeed
    later."""

    type: str
    message: str
    item: int | None = None
    response: int | None = None
    retryable: bool
    request_id: str | None = None


class ErrorEnvelope(Wire):
    """Body of every answer that is not a success."""

    error: ErrorDetail
