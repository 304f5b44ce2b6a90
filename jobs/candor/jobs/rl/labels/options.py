"""The options of `candor rl` about labels, and the trickle that they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cyclopts import Group, Parameter

from candor.client.rows import Context, Outcome
from candor.client.schema import ResponseReward
from candor.flags import UsageError
from candor.jobs.running.files import Row

OnScored = Callable[[int, Sequence[Context], Sequence[Context], Sequence[Outcome]], None]
"""Called with a step, and with its prompts, completions and outcomes."""


@Parameter(name="*", group=Group("Labels", sort_key=5))
@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """Which responses are judged while the policy trains, and by whom.

    Raises:
        UsageError: at construction, for a value out of range.
    """

    label_rate: float = 0.0
    """Share of the responses that is judged and sent to the reward server, which raises an alarm
    when a probe ranks them worse than at the start. Half of them are whole prompts at random, half
    those that R and S disagree on most. 0 judges none."""
    label_probe: str | None = None
    """The probe that the labels are about. Default: the only served probe."""
    judge: Literal["grounded"] | None = None
    """grounded: the exact judge of grounded questions; the prompts' meta names them."""
    judge_url: str | None = None
    """Address of another judge. It gets {"items": [{"messages", "response"}]} and answers
    {"labels": [0, 1, ...]}: 1 shows the trait."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.label_rate) and 0 <= self.label_rate <= 1):
            raise UsageError(f"--label-rate {self.label_rate}: must be from 0 to 1")
        given = [self.judge, self.judge_url].count(None)
        if self.label_rate > 0 and given != 1:
            raise UsageError("--label-rate: give one judge, --judge grounded or --judge-url")
        if self.label_rate == 0 and given != 2:
            raise UsageError("--judge, --judge-url: judge nothing without a --label-rate above 0")


def label_hook(
    options: LabelOptions,
    url: str,
    key: str | None,
    probes: Collection[str],
    rows: Sequence[Row],
    out: Path,
    seed: int,
) -> tuple[OnScored | None, Callable[[], None]]:
    """What the reward function calls after each step, if anything, and what closes it at the end.

    Args:
        probes: names of the served probes.
        rows: the prompts of the run.

    Raises:
        UsageError: the server takes no labels with this key, or the judge does not know a prompt.
    """
    if options.label_rate == 0:
        return None, lambda: None
    from candor.jobs.rl.labels.judges import grounded_judge, url_judge
    from candor.jobs.rl.labels.trickle import Trickle

    probe = options.label_probe or (next(iter(probes)) if len(probes) == 1 else None)
    if probe is None or probe not in probes:
        raise UsageError(f"--label-probe: name one of the served probes: {', '.join(probes)}")
    judge = grounded_judge(rows) if options.judge_url is None else url_judge(options.judge_url)
    name: str = probe
    trickle = Trickle(
        url, key, judge=judge, rate=options.label_rate, probe=name, out=out, seed=seed
    )
    try:
        trickle.check_access()
    except UsageError:
        trickle.close()
        raise

    def on_scored(
        step: int,
        prompts: Sequence[Context],
        completions: Sequence[Context],
        outcomes: Sequence[Outcome],
    ) -> None:
        trickle.offer(step, scored_prompts(prompts, completions, outcomes, name))

    return on_scored, trickle.close


def scored_prompts(
    prompts: Sequence[Any], completions: Sequence[Any], outcomes: Sequence[Outcome], probe: str
) -> list[Any]:
    """A step's rows by prompt, without those that could not be scored. Prompts and completions are
    messages, as `candor rl` gives them to TRL; each completion is one message."""
    from candor.jobs.rl.labels.trickle import ScoredPrompt

    found: dict[str, ScoredPrompt] = {}
    for messages, completion, outcome in zip(prompts, completions, outcomes, strict=True):
        if not isinstance(outcome, ResponseReward) or outcome.num_tokens == 0:
            continue
        text = completion[-1]["content"]
        if not text:
            continue
        prompt = found.setdefault(repr(messages), ScoredPrompt(list(messages), [], [], []))
        prompt.responses.append(text)
        prompt.rewards.append(outcome.base_reward)
        prompt.scores.append(outcome.probes[probe].score)
    return list(found.values())
