"""vLLM's processes get their probes when they start, and the refusal says what to do."""

from __future__ import annotations

import pytest

from candor.engines.vllm.engine import VllmEngine


def test_other_probes_are_refused_by_name() -> None:
    engine = VllmEngine.__new__(VllmEngine)
    with pytest.raises(ValueError, match=r"--engine vllm .* start the server again .* --probe"):
        engine.read_probes([])
