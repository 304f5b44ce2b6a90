"""`--int8-gate FILE`: 8-bit linear layers, only if they rank the user's own candidates as the model
does.

FILE has prompts with candidates, as `candor generate` writes them. They are scored by the model as
it was loaded, its linear layers are replaced (`candor.forward.int8`), and they are scored again.
What a trainer learns from is the order of one prompt's candidates, so that is what is compared:
Spearman's correlation within each prompt, of R and of every probe's S, and what R is lost where the
best candidate is another one. Not good enough, and the server refuses to start: serving in float
what was sized for int8 would only fail later.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from candor.batching.batch import take_batch
from candor.client.schema import Message
from candor.errors import CandorError
from candor.forward.int8 import quantise
from candor.item import Engine, Item, Score
from candor.models.checkpoint import ModelRefused
from candor.text.render import Renderer

MIN_PROMPTS = 16
"""Fewer, and one odd prompt decides."""

MIN_AGREEMENT = 0.95
"""Mean over prompts of Spearman's correlation, for R and for every S."""

MAX_REGRET = 0.05
"""Mean R lost by choosing each prompt's best by int8, in standard deviations of R within a
prompt."""


class GateError(ValueError):
    """The file cannot be used; the message names the line and the fix."""


class Candidate(BaseModel):
    """One response of a line; other fields are ignored."""

    text: str


class Prompt(BaseModel):
    """One line of the file; other fields are ignored."""

    model_config = ConfigDict(hide_input_in_errors=True)

    messages: Annotated[list[Message], Field(min_length=1)]
    responses: Annotated[list[Candidate], Field(min_length=2)]


@dataclass(frozen=True, slots=True)
class Agreement:
    """int8 against the model as it was loaded.

    Attributes:
        spearman: mean over prompts, by what was ranked: `R`, and probes by name.
        regret: mean R lost, in standard deviations within a prompt.
        num_prompts: that were compared; one whose candidates are all equal has no order.
    """

    spearman: dict[str, float]
    regret: float
    num_prompts: int

    @property
    def reason(self) -> str | None:
        """None where int8 may serve; else what is not good enough."""
        if self.num_prompts < MIN_PROMPTS:
            return f"only {self.num_prompts} prompts have candidates whose R differs"
        low = {name: value for name, value in self.spearman.items() if not value >= MIN_AGREEMENT}
        if low:
            told = ", ".join(f"{name} {value:.3f}" for name, value in low.items())
            return f"Spearman's correlation within prompts is under {MIN_AGREEMENT}: {told}"
        if not self.regret <= MAX_REGRET:
            return (
                f"choosing the best candidate by int8 loses {self.regret:.3f} standard deviations "
                f"of R, over {MAX_REGRET}"
            )
        return None


def read_gate(path: Path | None) -> list[Prompt]:
    """The prompts of a JSONL file; none without a file.

    Raises:
        GateError: unreadable, a line that is no prompt with two responses, or too few of them.
    """
    if path is None:
        return []
    prompts = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        reason = type(error).__name__
        raise GateError(f"--int8-gate {path}: cannot be read ({reason})") from None
    for number, line in enumerate(lines, 1):
        try:
            prompts.append(Prompt.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise GateError(
                f"--int8-gate {path}: line {number}: {where or 'line'}: {first['msg']}; give JSONL "
                "as candor generate writes it"
            ) from None
    if len(prompts) < MIN_PROMPTS:
        raise GateError(
            f"--int8-gate {path}: {len(prompts)} prompts; give at least {MIN_PROMPTS} of your own"
        )
    return prompts


def through_the_gate(
    prompts: Sequence[Prompt],
    model: nn.Module,
    engine: Engine,
    renderer: Renderer,
    max_batch_tokens: int,
    forget: Callable[[], None],
) -> Agreement:
    """Replaces the model's linear layers by int8 ones and says what that does; in place.

    Args:
        forget: empties the engine's caches: what the float layers computed is not int8's.

    Raises:
        ModelRefused: a text that this model cannot read, scores that are not finite, or the ranking
            is not kept.
    """
    groups = [_items(prompt, number, renderer) for number, prompt in enumerate(prompts, 1)]
    before = [_scores(engine, group, max_batch_tokens) for group in groups]
    forget()
    quantise(model)
    after = [_scores(engine, group, max_batch_tokens) for group in groups]
    forget()
    if not all(score.is_finite for group in after for score in group):
        raise ModelRefused("int8 gives scores that are not finite; serve without --int8-gate")
    agreement = compare(before, after)
    if agreement.reason is not None:
        raise ModelRefused(
            f"int8 does not rank the candidates of --int8-gate as the model does: "
            f"{agreement.reason}; serve without it"
        )
    return agreement


def compare(before: Sequence[Sequence[Score]], after: Sequence[Sequence[Score]]) -> Agreement:
    """Both scorings, prompt by prompt."""
    correlations: dict[str, list[float]] = {}
    lost, spreads = [], []
    for ours, theirs in zip(before, after, strict=True):
        columns, others = _columns(ours), _columns(theirs)
        for name, values in columns.items():
            if len({*values}) > 1:
                correlations.setdefault(name, []).append(_spearman(values, others[name]))
        rewards, chosen = columns["R"], others["R"].index(max(others["R"]))
        lost.append(max(rewards) - rewards[chosen])
        spreads.append(statistics.pstdev(rewards))
    return Agreement(
        spearman={name: statistics.fmean(values) for name, values in correlations.items()},
        regret=statistics.fmean(lost) / (statistics.fmean(spreads) or 1.0),
        num_prompts=len(correlations.get("R", [])),
    )


def _spearman(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """0 where int8 tells nothing apart."""
    if len({*theirs}) == 1:
        return 0.0
    return float(np.corrcoef(_ranks(ours), _ranks(theirs))[0, 1])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """From 0; equal values share the mean of their ranks."""
    every = np.asarray(values)
    ranks: NDArray[np.float64] = (every[:, None] > every).sum(1) + (
        (every[:, None] == every).sum(1) - 1
    ) / 2
    return ranks


def _columns(scores: Sequence[Score]) -> dict[str, list[float]]:
    names = list(scores[0].readings)
    readings = {name: [score.readings[name].score for score in scores] for name in names}
    return {"R": [score.base_reward for score in scores], **readings}


def _items(prompt: Prompt, line: int, renderer: Renderer) -> list[Item]:
    items = []
    for number, response in enumerate(prompt.responses):
        try:
            items.append(renderer.encode(prompt.messages, response.text, truncation="left"))
        except CandorError as error:
            raise ModelRefused(
                f"--int8-gate: line {line}, response {number}: {error}; take it out"
            ) from None
    return items


def _scores(engine: Engine, items: Sequence[Item], max_batch_tokens: int) -> list[Score]:
    scores: list[Score] = []
    while rest := items[len(scores) :]:
        scores += engine.score(take_batch(rest, max_batch_tokens, engine.cost)).scores
    return scores
