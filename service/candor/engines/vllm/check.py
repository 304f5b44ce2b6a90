"""Checks that a vLLM that has just started gives this reward model's numbers.

A model that fits into memory a second time is compared with transformers' own forward. A larger
model is compared with itself: every sequence alone and without the cache, against all sequences
together and with the cache. That finds a broken cache or batch, and no more. The tests check that
the families of `candor.engines.vllm.plugin` read the right layers.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

from candor.engines.check import CHECK_TOLERANCE, boundaries, check_items
from candor.engines.padded import PaddedEngine
from candor.engines.vllm.engine import VllmEngine
from candor.item import Score
from candor.models.checkpoint import ModelRefused, read_tensors
from candor.models.load import RewardModel, load_reward_model
from candor.probes.probe import Probe

MAX_REFERENCE_BYTES = 4 * 2**30
"""Bytes of weights above which transformers' forward takes too long or too much memory at start."""

MAX_LENGTH = 1024
"""Longest text of the check, but for those of `check_items`."""


def check(
    engine: VllmEngine, model: RewardModel, probes: Sequence[Probe]
) -> Literal["transformers", "itself"]:
    """Compares the engine twice, on sequences that share contexts.

    Returns:
        The other side of the comparison.

    Raises:
        ModelRefused: the numbers differ.
    """
    config = model.model.config.get_text_config()
    lengths = [length for length in boundaries(config) if length <= MAX_LENGTH]
    items = check_items(config.vocab_size, sorted(lengths), model.max_length)
    files = set(read_tensors(model.folder).files.values())
    fits = sum(path.stat().st_size for path in files) <= MAX_REFERENCE_BYTES
    if fits:
        plain = load_reward_model(str(model.folder), device="cpu", dtype="float32")
        expected = PaddedEngine(plain.model, probes, device="cpu").score(items).scores
    else:
        expected = [engine.score([item], shared=False).scores[0] for item in items]
    against: Literal["transformers", "itself"] = "transformers" if fits else "itself"
    for _ in range(2):  # the first call fills the cache, the second reads it
        if reason := why_wrong(engine.score(items).scores, expected):
            raise ModelRefused(f"vLLM does not give this model's numbers: {reason} ({against})")
    return against


def why_wrong(found: Sequence[Score], expected: Sequence[Score]) -> str | None:
    """Says by how much R or a probe's scores differ; None if by no more than rounding."""
    for name in ("R", *expected[0].readings):
        wanted = [_value(score, name) for score in expected]
        gaps = [abs(_value(score, name) - b) for score, b in zip(found, wanted, strict=True)]
        gap, spread = statistics.fmean(gaps), statistics.pstdev(wanted)
        if not gap <= CHECK_TOLERANCE * spread:  # also true if the gap is NaN
            return (
                f"{name} is off by {gap:.3g} in the mean, with a standard deviation of {spread:.3g}"
            )
    return None


def _value(score: Score, name: str) -> float:
    return score.base_reward if name == "R" else score.readings[name].score
