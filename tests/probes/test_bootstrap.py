"""Percentile bootstrap: coverage, and that the seed decides every draw."""

from __future__ import annotations

import numpy as np

from candor.probes.bootstrap import mean_intervals


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        values = rng.normal(size=(60, 1)) + 3
        low, high = mean_intervals(values, seed=seed, num_resamples=300)
        covered += low[0] <= 3 <= high[0]
    assert 0.88 <= covered / 200 <= 0.99


def test_the_interval_depends_on_the_seed_alone_and_shrinks_with_more_prompts() -> None:
    few = np.random.default_rng(1).normal(size=(30, 2))
    many = np.tile(few, (16, 1))
    first, again = (mean_intervals(few, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (mean_intervals(few, seed=4)[0] != first[0]).any()
    width = first[1] - first[0]
    narrow = np.subtract(*mean_intervals(many, seed=3)[::-1])
    assert (narrow < 0.4 * width).all()
