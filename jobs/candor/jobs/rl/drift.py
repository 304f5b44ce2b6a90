"""The operator's view of the server while a policy trains: its alarms and its monitors' scores.

`GET /v1/drift` is asked with the operator's key by what logs and stops the run, never by the reward
function: a monitor in the reward would be one more probe for the policy to fool. Numbers are means
over the server's window of responses, not over one step.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from candor.client.retry import NO_ANSWER, error_of, http_url
from candor.flags import UsageError
from candor.jobs.running.exits import Exit, JobStopped

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class DriftReading:
    """Attributes:
    monitors: mean S by monitor over the current window, or over the reference window while the
        current window is empty.
    num_current: responses in the current window; alarms are silent until the window is full.
    alarms: the active alarms, as `probe: rule: reason`.
    compared: whether the current window was full, so that an alarm could be active.
    """

    monitors: dict[str, float]
    num_current: int
    alarms: list[str]
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Windows:
    """How full the server's windows are, in responses.

    Attributes:
        window: length of the current window, and of a reference that is taken from traffic.
        source: `traffic`, or `file` where the server was started with a reference.
    """

    window: int
    num_reference: int
    num_current: int
    source: str

    @property
    def num_missing_reference(self) -> int:
        """Responses until the reference is full; one from a file has a length of its own."""
        return 0 if self.source == "file" else max(0, self.window - self.num_reference)

    @property
    def num_missing_current(self) -> int:
        """Responses after a full reference until anything is compared."""
        return self.window - self.num_current


class DriftWatch:
    """Reads the drift report of one server.

    Args:
        url: address of the server, already checked.
        key: the operator's key; None sends no key.
        probes: names of the served probes; every other probe in the report is a monitor.
    """

    def __init__(self, url: str, key: str | None, probes: Collection[str]) -> None:
        self._probes = frozenset(probes)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=http_url(url), headers=headers, timeout=TIMEOUT_S)

    def check_access(self, *, needed: bool) -> bool:
        """Whether the server shows a report to this key; stderr says so where it does not.

        Args:
            needed: whether the user gave an operator's key.

        Raises:
            UsageError: the report is `needed` and refused.
            JobStopped: (unreachable) no answer.
        """
        try:
            answer = self._http.get("/v1/drift")
        except NO_ANSWER as error:
            raise JobStopped(Exit.UNREACHABLE, f"/v1/drift: {type(error).__name__}") from None
        if not answer.is_success:
            refused = f"/v1/drift: {error_of(answer)}"
            if needed:
                raise UsageError(f"--operator-key-file: {refused}")
            print(f"candor: no alarms or monitors are watched: {refused}", file=sys.stderr)
        return answer.is_success

    def read(self) -> DriftReading | None:
        """The report now; None while the server does not answer (the reward function waits for
        the server)."""
        try:
            answer = self._http.get("/v1/drift")
        except NO_ANSWER:
            return None
        return _reading(answer.json(), self._probes) if answer.is_success else None

    def windows(self) -> Windows | None:
        """How full the windows are; None while the server does not answer."""
        try:
            answer = self._http.get("/v1/drift")
        except NO_ANSWER:
            return None
        if not answer.is_success:
            return None
        report = answer.json()
        return Windows(
            window=report["window"],
            num_reference=report["num_reference"],
            num_current=report["num_current"],
            source=report["reference_source"],
        )

    def save_reference(self, path: Path) -> None:
        """Write the reference window as `candor serve --drift-reference` reads it; nothing where
        it is not full."""
        try:
            answer = self._http.get("/v1/drift/reference")
        except NO_ANSWER:
            return
        if answer.is_success:
            path.write_bytes(answer.content)

    def close(self) -> None:
        self._http.close()


def _reading(report: dict[str, Any], probes: Collection[str]) -> DriftReading:
    monitors = {}
    for signal, statistics in report["signals"].items():
        kind, _, name = signal.partition(".")
        window = statistics["current"] or statistics["reference"]
        if kind == "score" and name not in probes and window is not None:
            monitors[name] = float(window["mean"])
    return DriftReading(
        monitors=monitors,
        num_current=report["num_current"],
        alarms=[
            f"{alarm['probe']}: {alarm['rule']}: {alarm['reason']}"
            for alarm in report["alarms"]
            if alarm["active"]
        ],
        compared=report["num_current"] >= report["window"],
    )
