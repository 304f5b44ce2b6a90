"""`Card`: the facts that are needed to trust a probe's numbers, in `card.json` beside the weights.

Pydantic models without behaviour, except that a `BoundSpec` builds its `Bound`.
`candor.probes.artifact` reads and writes cards. Nothing here needs torch, because the jobs that
only talk to servers read cards too. Unknown fields are refused: a card of another version must not
be half understood.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from candor.probes.bound import Bound, BoundKind

CARD_VERSION: Literal[1] = 1

Pooling = Literal["mean", "max", "last", "topk", "rolling-max"]

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0)]
Percentile = Literal["p1", "p5", "p50", "p95", "p99"]


class CardPart(BaseModel):
    """Frozen, strict about types and names."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelIdentity(CardPart):
    """The model that the probe was fitted on. `weights_sha256` decides, `id` is for people."""

    id: str
    weights_sha256: str
    hidden_size: Annotated[int, Field(gt=0)]
    num_layers: Annotated[int, Field(gt=0)]


class BoundSpec(CardPart):
    """A `Bound` as stored: its kind, and that kind's parameters in logits."""

    kind: BoundKind
    low: Finite | None = None
    high: Finite | None = None
    reference: Finite | None = None
    scale: Finite | None = None

    @model_validator(mode="after")
    def buildable(self) -> BoundSpec:
        self.build()
        return self

    def build(self) -> Bound:
        return Bound(self.kind, self.low, self.high, self.reference, self.scale)


class Calibration(CardPart):
    """How base reward R and probe score S vary, for choosing lambda and bounds.

    `std_R` and `std_S` are standard deviations WITHIN a context: each context's mean over its
    responses is subtracted and the rest is pooled, because an optimiser only ever compares
    responses to one prompt. `std_bounded_S` is the same of bound(S), what lambda multiplies; None
    on a card from before this field. `num_prompts` and `num_responses` count the data behind these.
    `percentiles` are those of S itself, over all responses.
    """

    std_R: Positive
    std_S: Positive
    std_bounded_S: Positive | None = None
    percentiles: dict[Percentile, Finite]
    num_prompts: Annotated[int, Field(gt=0)]
    num_responses: Annotated[int, Field(gt=0)]
    source: str


class DataInfo(CardPart):
    """The labelled rows that the probe was fitted on; `kinds` counts rows by their `kind`."""

    sha256: str
    num_rows: int
    num_groups: int
    kinds: dict[str, int]


class Lineage(CardPart):
    """Where a refreshed probe comes from: the probe before it, and the judged rows that were new.

    `candor probe refresh` writes it. A probe without a lineage is version 1.
    """

    version: Annotated[int, Field(ge=2)]
    parent_sha256: str
    labels_sha256: str
    num_labels: Annotated[int, Field(gt=0)]


class Card(CardPart):
    """Everything about one probe but its weights."""

    card_version: Literal[1] = CARD_VERSION
    name: Annotated[str, Field(min_length=1)]
    trait: Annotated[str, Field(min_length=1, description="One sentence: what a positive S means.")]
    model: ModelIdentity
    template_sha256: str
    template_date: Annotated[str | None, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] = None
    """The date that the chat template was told, if it asks for one. In `template_sha256` too."""
    layer: Annotated[int, Field(ge=0, description="Index into hidden_states; 0 = embeddings.")]
    pooling: Pooling
    bound: BoundSpec
    calibration: Calibration
    metrics: dict[str, Any]
    data: DataInfo
    versions: dict[str, str]
    created: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}", description="ISO date.")]
    lineage: Lineage | None = None

    @property
    def version(self) -> int:
        """1 for a probe that was trained, one more with each refresh."""
        return 1 if self.lineage is None else self.lineage.version
