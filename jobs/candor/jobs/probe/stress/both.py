"""Both tests on changed responses, as parts of `report.json`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from candor.jobs.probe.material import LabelledRows
from candor.jobs.probe.reader import RowReader
from candor.jobs.probe.stress.long_texts import long_texts
from candor.jobs.probe.stress.telltale import telltale
from candor.probes.probe import Probe

log = logging.getLogger(__name__)

TESTS: dict[str, Callable[[LabelledRows, RowReader, Probe, Sequence[int], int], dict[str, Any]]] = {
    "long_texts": long_texts,
    "telltale": telltale,
}


def stress(
    data: LabelledRows, reader: RowReader, probe: Probe, test: Sequence[int], seed: int
) -> dict[str, Any]:
    """The report's keys `long_texts` and `telltale`. A test that fails, such as on activations that
    overflow, is {"error": reason}: the probe is fitted, and hours of work must not be lost."""
    found: dict[str, Any] = {}
    for name, run in TESTS.items():
        try:
            found[name] = run(data, reader, probe, test, seed)
        except ValueError as error:
            log.warning("%s is not in the report: %s", name, error)
            found[name] = {"error": str(error)}
    return found
