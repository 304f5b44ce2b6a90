"""What the server's operator can see while a policy trains: its alarms, and what monitors read.

`GET /v1/drift` with the operator's key, from the side that logs and stops, never from the reward
function: a monitor that reached the reward would be one more thing to fool. Numbers are means over
the server's window of responses, not of one step.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import httpx2

from candor.client.retry import NO_ANSWER, error_of, http_url
from candor.jobs.running.exits import Exit, JobStopped

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Attributes:
    monitors: mean S by monitor over the current window; the reference's while that is empty.
    num_current: responses in the current window; alarms are silent until it is full.
    alarms: active ones, as `probe: rule: reason`.
    """

    monitors: dict[str, float]
    num_current: int
    alarms: list[str]


class DriftWatch:
    """Reads one server's report.

    Args:
        url: of the server, checked before.
        key: the operator's; None sends none.
        probes: names of the served probes, which are no monitors.
    """

    def __init__(self, url: str, key: str | None, probes: Collection[str]) -> None:
        self._probes = frozenset(probes)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=http_url(url), headers=headers, timeout=TIMEOUT_S)

    def start(self, *, needed: bool) -> bool:
        """Whether there is a report for this key; where not, it is said on stderr.

        Args:
            needed: the caller gave a key for it.

        Raises:
            JobStopped: (usage) `needed` and refused; (unreachable) no answer.
        """
        try:
            answer = self._http.get("/v1/drift")
        except NO_ANSWER as error:
            raise JobStopped(Exit.UNREACHABLE, f"/v1/drift: {type(error).__name__}") from None
        if not answer.is_success:
            refused = f"/v1/drift: {error_of(answer)}"
            if needed:
                raise JobStopped(Exit.USAGE, f"--operator-key-file: {refused}")
            print(f"candor: no alarms or monitors are watched: {refused}", file=sys.stderr)
        return answer.is_success

    def read(self) -> Reading | None:
        """The report now; None while the server does not answer (the reward waits for it)."""
        try:
            answer = self._http.get("/v1/drift")
        except NO_ANSWER:
            return None
        return _reading(answer.json(), self._probes) if answer.is_success else None

    def close(self) -> None:
        self._http.close()


def _reading(report: dict[str, Any], probes: Collection[str]) -> Reading:
    monitors = {}
    for signal, told in report["signals"].items():
        kind, _, name = signal.partition(".")
        window = told["current"] or told["reference"]
        if kind == "score" and name not in probes and window is not None:
            monitors[name] = float(window["mean"])
    return Reading(
        monitors=monitors,
        num_current=report["num_current"],
        alarms=[
            f"{one['probe']}: {one['rule']}: {one['reason']}"
            for one in report["alarms"]
            if one["active"]
        ],
    )
