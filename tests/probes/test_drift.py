"""PSI, KS and shift against numbers worked out by hand, and what must hold for any sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.probes.drift import ks_distance, mean_shift, psi

samples = st.lists(st.integers(-1000, 1000).map(lambda n: n / 8), min_size=1, max_size=60)


def test_psi_of_two_bins_by_hand() -> None:
    # The reference's median is 2: half and half. A quarter of the current values is up to 2.
    expected = (0.25 - 0.5) * math.log(0.25 / 0.5) + (0.75 - 0.5) * math.log(0.75 / 0.5)
    assert psi([1, 2, 3, 4], [2, 3, 3, 9], bins=2) == pytest.approx(expected)


def test_an_empty_bin_counts_as_half_a_value() -> None:
    empty, full = 0.5 / 4, 4 / 4
    expected = (empty - 0.5) * math.log(empty / 0.5) + (full - 0.5) * math.log(full / 0.5)
    assert psi([1, 2, 3, 4], [5, 5, 5, 5], bins=2) == pytest.approx(expected)


def test_psi_reads_as_it_is_usually_read() -> None:
    draw = np.random.default_rng(0).standard_normal
    reference = draw(4000)
    assert psi(reference, draw(4000)) < 0.1
    assert 0.1 < psi(reference, draw(4000) + 0.4) < 0.25
    assert psi(reference, draw(4000) + 1) > 0.25
    # The mean alone would not see this one.
    assert psi(reference, draw(4000) * 3) > 0.25


def test_psi_without_drift_is_about_what_the_docstring_says() -> None:
    draw = np.random.default_rng(0).standard_normal
    found = np.mean([psi(draw(256), draw(256)) for _ in range(200)])
    assert found == pytest.approx(9 * (1 / 256 + 1 / 256), rel=0.2)


def test_a_constant_reference_has_no_bin_below_its_value_and_ks_sees_what_psi_does_not() -> None:
    assert psi([3, 3, 3, 3], [4, 4, 4, 4]) > 1
    assert psi([3, 3, 3, 3], [2, 2, 2, 2]) == 0
    assert ks_distance([3, 3, 3, 3], [2, 2, 2, 2]) == 1


def test_ks_by_hand() -> None:
    # At 2: three quarters of the reference, one quarter of the current values.
    assert ks_distance([1, 2, 2, 5], [2, 3, 4, 5]) == 0.5
    assert ks_distance([1, 2], [3, 4]) == 1


def test_ks_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(20):
        reference, current = rng.integers(0, 9, 37) / 2, rng.standard_normal(53)
        expected = stats.ks_2samp(reference, current).statistic
        assert ks_distance(reference, current) == pytest.approx(expected)


def test_shift_by_hand() -> None:
    # Mean 2, standard deviation 1.
    assert mean_shift([1, 3, 1, 3], [4, 4]) == pytest.approx(2)
    assert mean_shift([1, 3, 1, 3], [1, 1]) == pytest.approx(-1)


def test_a_shift_from_a_constant_is_finite_and_rounding_is_none() -> None:
    assert math.isfinite(mean_shift([2.0] * 8, [3.0] * 8))
    assert mean_shift([2.0] * 8, [3.0] * 8) > 1000
    assert abs(mean_shift([2.0] * 8, [2.0 + 2e-7] * 8)) < 0.1


@given(samples)
def test_a_sample_has_not_drifted_from_itself_in_any_order(sample: list[float]) -> None:
    assert psi(sample, sample[::-1]) == 0
    assert ks_distance(sample, sample[::-1]) == 0
    assert mean_shift(sample, sample[::-1]) == pytest.approx(0, abs=1e-9)


@given(samples, samples)
def test_psi_is_at_least_0_and_ks_is_symmetric_and_between_0_and_1(
    reference: list[float], current: list[float]
) -> None:
    assert psi(reference, current) >= 0
    assert ks_distance(reference, current) == ks_distance(current, reference)
    assert 0 <= ks_distance(reference, current) <= 1


@given(samples, st.integers(0, 200), st.integers(0, 200))
def test_further_is_never_nearer(sample: list[float], a: int, b: int) -> None:
    values = np.array(sample)
    near, far = values + min(a, b), values + max(a, b)
    assert ks_distance(values, near) <= ks_distance(values, far)
    assert mean_shift(values, near) <= mean_shift(values, far)


def test_psi_grows_with_the_shift() -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    found = [psi(values, values + shift) for shift in (0, 0.1, 0.3, 0.6, 1, 2, 4)]
    assert found == sorted(found)
    assert found[0] == 0


@pytest.mark.parametrize("measure", [psi, ks_distance, mean_shift])
@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf], [[1.0]]])
def test_no_values_or_no_numbers_are_refused(measure: object, bad: object) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match="finite numbers"):
        measure([1.0, 2.0], bad)
    with pytest.raises(ValueError, match="finite numbers"):
        measure(bad, [1.0, 2.0])
