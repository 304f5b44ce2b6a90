"""The types of Candor's own API: request and answer of `POST /v1/rewards` (docs/api.md).

The module imports nothing but pydantic, so that a trainer's environment can use it. The client
parses answers with these classes. The server parses requests with them, strictly, and stops at the
first error in a list (`FailFast`): by default pydantic reports and repeats every wrong item, which
makes an answer 51 times as long as the request.

Unknown fields are refused: a mistyped `penaltys` that is ignored would be a wrong reward.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

MAX_RESPONSES = 4096
"""Responses in one item."""

MAX_ITEMS = 16_384
"""Items in one request, and responses over all items of one request."""

MAX_PENALTIES = 64
"""Probe names in `penalties`."""

Role = Literal["system", "developer", "user", "assistant", "tool"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Wire(BaseModel):
    """Base of all types: unknown fields are refused, and error messages do not repeat the input."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Message(Wire):
    """One turn of a conversation, in OpenAI form (text content only)."""

    role: Role
    content: str


class RewardItem(Wire):
    """One context with the responses to score: exactly one of `messages` and `prompt`."""

    messages: Annotated[list[Message] | None, FailFast(), Field(min_length=1)] = Field(
        None, description="The conversation so far; the RM's chat template is applied to it."
    )
    prompt: str | None = Field(
        None, description="Text with the chat template already applied; used as it is."
    )
    responses: Annotated[list[str], FailFast(), Field(min_length=1, max_length=MAX_RESPONSES)]

    @model_validator(mode="after")
    def one_context(self) -> RewardItem:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give exactly one of 'messages' and 'prompt'")
        return self


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
        description="lambda * std(S) / std(R), both within prompt, from the probe's card.",
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
    include: Annotated[list[Literal["tokens"]], FailFast()] = Field(
        default_factory=list, description="`tokens` adds per-token probe logits."
    )
    truncation: Literal["error", "left"] = Field(
        "error",
        description="For text over the RM's window: refuse it, or drop the oldest context tokens. "
        "The response is always kept whole.",
    )


class ProbeReading(Wire):
    """The score of one probe on one response."""

    score: float = Field(description="S: the pooled logit; positive = more of the trait.")
    bounded: float = Field(
        description="bound(S), what lambda multiplies; under `closed_form` 1 if flagged, else 0."
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


class ResponseReward(Wire):
    """One scored response. `reward == base_reward - penalty`, exactly as returned."""

    reward: float
    base_reward: float
    penalty: float
    probes: dict[str, ProbeReading]
    num_tokens: int = Field(description="Tokens of context and response together.")
    truncated: bool
    tokens: list[Token] | None = None


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


class ModelInfo(Wire):
    """The reward model (RM) that answered, and the formula of the reward."""

    id: str
    revision: str = Field(description="sha256 over the weights files.")
    engine: str
    formula: str
    combine: Combine = Field(default_factory=Combine)


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


class RewardResponse(Wire):
    """Body of the answer to `POST /v1/rewards`."""

    model: ModelInfo
    results: list[RewardResult]
    usage: Usage
    timings: Timings


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
