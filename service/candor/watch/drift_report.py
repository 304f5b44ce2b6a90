"""The drift report as types: the answer of `GET /v1/drift`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from candor.client.schema import Wire


class Spread(Wire):
    """Mean and standard deviation of one signal in one window."""

    mean: float
    std: float


class DriftSignal(Wire):
    """How one signal has moved; psi, ks and shift are null until the current window is full."""

    reference: Spread | None
    current: Spread | None
    psi: float | None = Field(description="Population stability index; over 0.25 is large.")
    ks: float | None = Field(description="Kolmogorov-Smirnov distance, 0 to 1.")
    shift: float | None = Field(
        description="Shift of the mean, in standard deviations of the reference."
    )


class DriftAlarm(Wire):
    """One rule for one penalised probe."""

    probe: str
    rule: Literal["diluted", "mean_max_gap", "length", "labels"]
    active: bool | None = Field(
        description="Null while `num_missing` is above 0: nothing has been compared, which is not "
        "the same as no alarm."
    )
    reason: str | None


class DriftReport(Wire):
    """Body of `GET /v1/drift`. It includes monitors, so it is for the operator of the server."""

    window: int = Field(description="Responses in a full current window.")
    reference_source: Literal["traffic", "file"]
    num_reference: int
    num_current: int
    num_missing: int = Field(
        description="Responses that must still be answered before anything is compared; 0 from "
        "then on."
    )
    signals: dict[str, DriftSignal] = Field(
        description="base_reward, response_tokens, and for each probe score.NAME and gap.NAME: "
        "max minus mean of its token logits."
    )
    alarms: list[DriftAlarm] = Field(
        description="One entry per penalised probe and rule that can fire (`diluted` needs a "
        "monitor)."
    )
