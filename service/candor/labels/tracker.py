"""`Tracker`: one version of one probe against the judge, prompt by prompt."""

from __future__ import annotations

from collections import deque

import numpy as np

from candor.labels.wire import LabelledProbe, LabelReference
from candor.probes.within import FallTest, interval, lower_bound

ALPHA = 0.05
"""Probability of a false alarm over the whole life of a probe's version: half of it for a reference
that came out too high by chance, half for the test that follows."""

NEEDED = 2 / ALPHA
"""Evidence that exceeds this is an alarm (`candor.probes.within.FallTest`)."""

LEVELS = (0.01, 0.99)
"""The test needs a level inside (0, 1)."""


class Tracker:
    """Counts the prompts that were drawn at random and have both labels.

    The first `window` prompts are the reference: the policy's own responses at the time, and not
    the training rows of the card, because an AUROC depends on which responses are ranked. Their
    lower bound is the level of the test. An alarm stays on until the probe is replaced.
    """

    def __init__(self, version: int, sha256: str, *, monitor: bool, window: int) -> None:
        self.sha256 = sha256
        self.alarm: str | None = None
        self._version, self._monitor, self._window = version, monitor, window
        self._first: list[float] = []
        self._latest: deque[float] = deque(maxlen=window)
        self._test: FallTest | None = None
        self._evidence: float | None = None

    def add(self, auroc: float) -> None:
        """One more prompt."""
        self._latest.append(auroc)
        if self._test is None:
            self._first.append(auroc)
            if len(self._first) == self._window:
                level = lower_bound(self._first, ALPHA / 2)
                self._test = FallTest(min(max(level, LEVELS[0]), LEVELS[1]), self._window)
            return
        self._evidence = self._test.add(auroc)
        if self.alarm is None and self._evidence >= NEEDED:
            self.alarm = (
                f"the within-prompt AUROC of the last {len(self._latest)} prompts is "
                f"{np.mean(self._latest):.2f}; the first {self._window} gave "
                f"{np.mean(self._first):.2f}, at least {self._test.level:.2f}"
            )

    def report(self) -> LabelledProbe:
        """The numbers now."""
        latest = list(self._latest)
        low, high = interval(latest) or (None, None)
        reference = None
        if self._test is not None:
            reference = LabelReference(
                auroc=float(np.mean(self._first)),
                level=self._test.level,
                num_prompts=len(self._first),
            )
        return LabelledProbe(
            version=self._version,
            sha256=self.sha256,
            monitor=self._monitor,
            auroc=float(np.mean(latest)) if latest else None,
            low=low,
            high=high,
            num_prompts=len(latest),
            reference=reference,
            evidence=self._evidence,
            needed=NEEDED,
            alarm=self.alarm,
        )
