"""The options of `candor probe train`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from candor.probes.bound import BoundKind
from candor.probes.fitting.fit import METHODS, Method
from candor.probes.fitting.select import POOLINGS, Select
from candor.probes.probe import Pooling


@Parameter(name="*")
@dataclass(frozen=True)
class TrainOptions:
    """The options of `candor probe train`."""

    data: Annotated[list[Path], Parameter(negative="")]
    """JSONL of labelled responses: group (rows of one group, such as one question, stay in the same
    part of the split), label (1: has the trait, 0: does not), response, messages or prompt, kind
    (the family of the row, such as poem-feedback). May be repeated."""
    _: KW_ONLY
    model: str
    """The reward model whose activations the probe reads: a folder or a Hugging Face name."""
    out: Path
    """Folder to write: probe.safetensors, card.json, report.json, and words.json, the bag of words
    that is the probe's control."""
    name: str
    """Name of the probe in requests, such as sycophancy."""
    trait: str
    """One sentence: the meaning of a positive score."""
    layers: str = "all"
    """Hidden states to try: all, 1-30 or 12,16,20 (0 is the embeddings)."""
    method: Annotated[list[Method | Literal["all"]] | None, Parameter(negative="")] = None
    """How weights are fitted; all tries every method. Default: logistic. paper is the recipe of
    arXiv 2412.00967. May be repeated."""
    pooling: Pooling | Literal["all"] = "mean"
    """How a response's token logits become one score S when served; all tries every pooling.
    Fitting uses means, as in the paper."""
    bound: BoundKind = "hinge"
    """How S is limited before it is multiplied by lambda, the penalty's strength. hinge: only the
    part of S above a reference counts, and a low S earns nothing; the reference is the 75th
    percentile of S among the validation rows of label 0. The other bounds are negative where S is
    low, so there the "penalty" raises the reward: clip limits S to its 1st and 99th percentile,
    tanh limits it smoothly on both sides, none (the paper's) leaves it as it is."""
    select: Select | None = None
    """How layer, method and pooling are chosen: transfer by the mean ranking on kinds that the fit
    left out, within by the ranking on the validation groups. The ranking is the AUROC among the
    responses to one prompt, or the AUROC of all where fewer than five prompts have both labels.
    Default: transfer where three kinds have both labels."""
    hold_out_kind: Annotated[list[str] | None, Parameter(negative="")] = None
    """A kind that is left out of fitting and choosing; its test rows are reported. May be
    repeated."""
    cache: Path | None = None
    """Folder that keeps the activations for the next run; by default they are deleted. Size in
    bytes: response tokens x hidden size x bytes per number x layers."""
    seed: int = 0
    """Seed of the split, the paper's fit, the bootstrap intervals and the shuffled labels."""
    device: str = "auto"
    """Device of the reward model; auto is CUDA where there is a GPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the reward model; give the format in which the probe will be served."""
    template_date: date | None = None
    """Date, such as 2026-11-30, for a chat template that writes the date; serve the probe with the
    same --template-date. Not used for other templates. Default: today."""

    @property
    def methods(self) -> list[Method]:
        """The methods to try, in their own order."""
        given = self.method or ["logistic"]
        return [method for method in METHODS if method in given or "all" in given]

    @property
    def poolings(self) -> list[Pooling]:
        """The poolings to try."""
        return list(POOLINGS) if self.pooling == "all" else [self.pooling]
