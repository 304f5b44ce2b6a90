"""The fit against a planted direction, against scikit-learn itself, and against shuffled labels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes.evaluate import auroc
from probes.fit import fit_logistic
from tests.probes.made import planted


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_a_planted_direction_is_recovered_and_ranks_points_it_was_not_fitted_on() -> None:
    x, y, direction = planted(4000, 16, seed=0)
    weight, bias = fit_logistic(x[:2000], y[:2000], C=1.0)
    assert weight.shape == (16,)
    assert weight.dtype == np.float32
    assert cosine(weight, direction) > 0.95
    assert auroc(x[2000:] @ weight + bias, y[2000:]) > 0.95


def test_shuffled_labels_give_next_to_no_weight() -> None:
    x, y, _ = planted(2000, 16, seed=0)
    weight, _ = fit_logistic(x, np.random.default_rng(2).permutation(y), C=1.0)
    true_weight, _ = fit_logistic(x, y, C=1.0)
    assert np.linalg.norm(weight) < 0.1 * np.linalg.norm(true_weight)


@pytest.mark.parametrize("C", [0.001, 1.0])
def test_folding_the_standardisation_equals_scikit_learns_decision_function(C: float) -> None:
    x, y, _ = planted(300, 8, seed=3)
    x = x * np.geomspace(0.01, 100.0, 8, dtype=np.float32) + 5.0  # wildly different scales
    weight, bias = fit_logistic(x, y, C)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=5000))
    expected = reference.fit(x.astype(np.float64), y).decision_function(x.astype(np.float64))
    np.testing.assert_allclose(x @ weight + bias, expected, atol=2e-3)
    assert np.ptp(expected) > 0.1  # the control: a constant would be equal as well


def test_the_solution_does_not_depend_on_the_unit_of_a_dimension() -> None:
    x, y, _ = planted(300, 8, seed=4)
    scale = np.geomspace(0.1, 10.0, 8, dtype=np.float32)
    plain, plain_bias = fit_logistic(x, y, C=0.1)
    scaled, scaled_bias = fit_logistic(x * scale, y, C=0.1)
    np.testing.assert_allclose(scaled * scale, plain, atol=1e-3)
    assert scaled_bias == pytest.approx(plain_bias, abs=1e-3)


def test_a_dimension_that_never_varies_gets_no_weight() -> None:
    x, y, _ = planted(200, 4, seed=5)
    x[:, 2] = 7.0
    weight, bias = fit_logistic(x, y, C=1.0)
    assert weight[2] == 0.0
    assert np.isfinite(weight).all()
    assert np.isfinite(bias)


def test_one_label_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="2 classes"):
        fit_logistic(np.zeros((4, 2), dtype=np.float32), np.ones(4, dtype=np.int64), C=1.0)
