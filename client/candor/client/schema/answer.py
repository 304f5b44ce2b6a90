"""What the server answers: rewards, or an error."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr

from candor.client.notebook.html import as_html
from candor.client.notebook.table import data_frame, table_rows
from candor.client.schema.message import Finite, Wire
from candor.client.schema.request import RewardRequest

Method = Literal["subtract", "project", "screen", "advantage"]
"""How a probe is used (docs/api.md)."""


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
