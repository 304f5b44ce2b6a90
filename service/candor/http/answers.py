"""The types that the GET routes answer: for the handlers, the OpenAPI document and the clients.

The scoring route's types are in `candor.client.schema`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from candor.client.schema import Combine, Method, Wire
from candor.scoring.caveats import CaveatType


class Alive(Wire):
    """Body of `GET /livez`."""

    status: Literal["alive"] = "alive"


class Readiness(Wire):
    """Body of `GET /readyz`. The status code is 200 for `ready`, and 503 for the other values."""

    status: Literal["loading", "ready", "wrong_scores", "stuck", "draining", "failed"]
    reason: str | None = None


class StartUpState(Wire):
    """Body of `GET /startupz`. The status code is 200 for `started`, and 503 for the other values.
    Times are in seconds."""

    status: Literal["starting", "started", "failed"]
    phase: str | None = Field(description="The phase that runs; null before and after.")
    doing: str | None = Field(description="The phase in words.")
    step: int = Field(description="Number of the phase, from 1; 0 before the first.")
    steps: int = Field(description="Number of phases.")
    seconds: float = Field(description="Time since the start; once started, the time it took.")
    phase_seconds: float = Field(description="Time in this phase.")


class ServedModel(Wire):
    """The served model: OpenAI's fields, then Candor's."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When this server started, Unix seconds.")
    owned_by: str = "candor"
    revision: str = Field(description="sha256 over the weights files.")
    template: str = Field(
        description="sha256 of the chat template, and of its date if it writes one."
    )
    template_date: str | None = Field(description="The date that the chat template writes.")
    engine: str
    engine_reason: str = Field(
        description="Why this engine runs, or why the model cannot be packed."
    )
    formula: str
    combine: Combine
    methods: dict[str, Method] = Field(description="How each probe is used, by name.")
    dtype: str
    device: str
    max_length: int = Field(description="Tokens of context and response together.")
    ending: str = Field(description="How a rendered conversation ends.")


class ModelList(Wire):
    """Body of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ServedModel]


class ProbeWarning(Wire):
    """What the card says against using the probe as it is, and what to do about it."""

    type: CaveatType
    message: str


class ServedProbeCard(Wire):
    """One served probe: its card, how it is used, and the lambda that applies unless a request
    overrides it."""

    name: str
    method: Method
    threshold: float | None = Field(
        description="S, in logits, above which a response is screened; null under other methods."
    )
    lambda_: float = Field(
        alias="lambda",
        description="Reward units per logit; under the method `screen` the whole fine, and 0 under "
        "`project`.",
    )
    can_raise_reward: bool = Field(
        description="Whether the card's bound is used and is negative for a low S, where the "
        "penalty raises the reward. A hinge never is."
    )
    within_prompt_auroc: float | None = Field(
        description="AUROC of S among the responses to one prompt, on the card's test rows: "
        "best-of-N and GRPO use nothing else of S. Null where the card has none."
    )
    warnings: list[ProbeWarning]
    version: int = Field(description="1 as trained, one more with each refresh.")
    sha256: str = Field(description="Hash of the probe's weights and card.")
    card: dict[str, Any]


class ProbeList(Wire):
    """Body of `GET /v1/probes`, without monitors."""

    probes: list[ServedProbeCard]
    probes_sha256: str = Field(description="Hash of these probes and their lambdas, in order.")


class Version(Wire):
    """Body of `GET /version`."""

    version: str
    torch: str
    transformers: str
