"""Distributions of R, S and rewards as Prometheus metrics: histograms of signed values.

A sum that can fall is no counter: `rate` would take every fall for a restart, and the client
library leaves `_sum` out of such histograms. So the positive and the negative values are summed
apart, as `NAME_value_total{sign}`; both rise, and their difference over `NAME_count` is the mean.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_POSITIVE = (0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 50)
LOGITS = (*(-bound for bound in reversed(_POSITIVE)), 0, *_POSITIVE)
"""Buckets for rewards and probe scores, in their own units."""


class Signed:
    """One such distribution: its histogram and its two sums."""

    def __init__(self, histogram: Histogram, positive: Counter, negative: Counter) -> None:
        self._histogram = histogram
        self._positive = positive
        self._negative = negative

    def observe(self, value: float) -> None:
        """Count one finite value."""
        self._histogram.observe(value)
        (self._positive if value >= 0 else self._negative).inc(abs(value))


def signed(name: str, words: str, registry: CollectorRegistry) -> Signed:
    histogram = Histogram(name, words, buckets=LOGITS, registry=registry)
    sums = Counter(f"{name}_value", _sum_of(words), ["sign"], registry=registry)
    return Signed(histogram, sums.labels("positive"), sums.labels("negative"))


class SignedByProbe:
    """One such distribution a probe."""

    def __init__(self, name: str, words: str, registry: CollectorRegistry) -> None:
        self._histogram = Histogram(name, words, ["probe"], buckets=LOGITS, registry=registry)
        self._sums = Counter(f"{name}_value", _sum_of(words), ["probe", "sign"], registry=registry)

    def labels(self, probe: str) -> Signed:
        return Signed(
            self._histogram.labels(probe),
            self._sums.labels(probe, "positive"),
            self._sums.labels(probe, "negative"),
        )


def _sum_of(words: str) -> str:
    return f"Sum of the values of this sign, as a magnitude: {words}"
