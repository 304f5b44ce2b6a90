"""The drift reference of a run: the untrained policy's own responses; and whether alarms can fire.

The server compares the latest responses with a reference window, and compares nothing before both
are full. Two faults follow. A reference taken from the first steps of the training has moved with
the policy already. And a run with fewer responses than the windows need ends with no alarm because
none was possible. So a run draws the reference before its first step, and counts its responses
before it starts.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import ceil
from pathlib import Path
from typing import Any

from candor.client.rows import RewardServer, close
from candor.flags import UsageError
from candor.jobs.generator.groups import MAX_ROWS, Sampling, draw
from candor.jobs.rl.drift import DriftWatch, Windows
from candor.jobs.rl.settings import Guards, TrainingSettings
from candor.jobs.running.files import Row

REFERENCE = "drift-reference.json"
"""File of a run that holds the reference, for `candor serve --drift-reference`."""

FIRST_SEED = 1_000_003
"""Seeds of the reference; the evaluations have the run's own seed."""


def check_windows(
    windows: Windows, settings: TrainingSettings, guards: Guards, steps_left: int
) -> None:
    """Whether the run has enough responses for one comparison, after its reference.

    Raises:
        UsageError: it has too few, and alarms are to end it. If they are not, stderr says so.
    """
    per_step = settings.prompts_per_step * settings.group_size
    num_responses = steps_left * per_step
    if num_responses >= windows.num_missing_current:
        return
    problem = (
        f"no drift alarm can fire in this run: the server compares once its window of "
        f"{windows.window} responses is full, which takes {windows.num_missing_current} more after "
        f"the reference, and the run has {num_responses} ({steps_left} steps of {per_step}). Serve "
        f"with a smaller --drift-window, or give more --steps"
    )
    if guards.stop_on_alarm:
        raise UsageError(f"{problem}; --no-stop-on-alarm runs without this guard")
    print(f"candor: {problem}", file=sys.stderr)


class UntrainedReference:
    """Fills the server's reference window with responses of the untrained policy.

    Args:
        drift: reads the server's windows.
        server: where the responses are scored, as those of the training are.
        rows: the prompts to train on, from which as many as needed are taken in turn.
        ends: the tokens that end a response, given the tokenizer.
        out: gets the reference as a file.
    """

    def __init__(
        self,
        drift: DriftWatch,
        server: RewardServer,
        rows: Sequence[Row],
        settings: TrainingSettings,
        ends: Callable[[Any], frozenset[int]],
        out: Path,
    ) -> None:
        self._drift = drift
        self._server = server
        self._rows = rows
        self._settings = settings
        self._ends = ends
        self._path = out / REFERENCE

    def fill(self, model: Any, tokenizer: Any, step: int) -> None:
        """Draw and score as many responses as the reference lacks; nothing where it is full.

        With an adapter the untrained policy is there at every step. Without one it is gone after
        the first, and then stderr says that the reference is not the untrained policy's.
        """
        windows = self._drift.windows()
        if windows is None:
            return
        if windows.num_missing_reference:
            adapter = hasattr(model, "disable_adapter")
            if step and not adapter:
                print(
                    "candor: the server's drift reference is not full, and the untrained policy is "
                    f"gone: serve with --drift-reference {self._path}",
                    file=sys.stderr,
                )
                return
            print(
                f"candor: {windows.num_missing_reference} responses of the untrained policy become "
                "the server's drift reference",
                file=sys.stderr,
            )
            with model.disable_adapter() if adapter else nullcontext():
                self._draw(model, tokenizer, windows.num_missing_reference)
        elif windows.source == "traffic" and not self._path.exists():
            print(
                "candor: the server's drift reference holds earlier traffic, not this policy's "
                "responses; a server started anew gets them",
                file=sys.stderr,
            )
        if not self._path.exists():
            self._drift.save_reference(self._path)

    def _draw(self, model: Any, tokenizer: Any, num: int) -> None:
        """Raises ClientError where the server does not answer."""
        n = self._settings.group_size
        wanted = [self._rows[turn % len(self._rows)] for turn in range(ceil(num / n))]
        per_call = max(1, MAX_ROWS // n)
        with asyncio.Runner() as runner:
            for turn in range(0, len(wanted), per_call):
                how = Sampling(
                    n=n,
                    max_tokens=self._settings.max_tokens,
                    temperature=self._settings.temperature,
                    seed=FIRST_SEED + turn,
                )
                some = wanted[turn : turn + per_call]
                drawn = draw(model, tokenizer, some, how, self._ends(tokenizer))
                rows = [
                    (one["messages"], response["text"])
                    for one in drawn
                    for response in one["responses"]
                ]
                runner.run(self._server.rewards(rows[: num - turn * n]))
            runner.run(close())
