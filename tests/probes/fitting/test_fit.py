"""Every fit against a planted direction, an independent reference, and shuffled labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from candor.probes.fitting.evaluate import auroc
from candor.probes.fitting.fit import (
    METHODS,
    Method,
    fit,
    fit_lda,
    fit_logistic,
    fit_mass_mean,
    fit_paper,
)
from tests.probes.made import planted

TOLERANCE = {1.0: 1e-6, 30.0: 1e-5}
"""Difference of weights near 1: float32 sums in another order, over 3,120 steps."""


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def c_of(method: Method) -> float | None:
    return 1.0 if method == "logistic" else None


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_direction_is_recovered_and_ranks_points_it_was_not_fitted_on(
    method: Method,
) -> None:
    x, y, direction = planted(4000, 16, seed=0)
    weight, bias = fit(method, x[:2000], y[:2000], C=c_of(method))
    assert weight.shape == (16,)
    assert weight.dtype == np.float32
    assert cosine(weight, direction) > 0.95
    assert auroc(x[2000:] @ weight + bias, y[2000:]) > 0.95
    assert abs(((x[2000:] @ weight + bias > 0) == y[2000:]).mean() - 0.93) < 0.02  # Bayes: 0.933


@pytest.mark.parametrize("method", METHODS)
def test_shuffled_labels_rank_nothing(method: Method) -> None:
    x, y, _ = planted(2000, 16, seed=0)
    weight, bias = fit(
        method, x[:1000], np.random.default_rng(2).permutation(y[:1000]), C=c_of(method)
    )
    assert abs(auroc(x[1000:] @ weight + bias, y[1000:]) - 0.5) < 0.2


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


@pytest.mark.parametrize("method", METHODS)
def test_one_label_cannot_be_fitted(method: Method) -> None:
    with pytest.raises(ValueError, match="4 ones and 0 zeros"):
        fit(method, np.zeros((4, 2), np.float32), np.ones(4, dtype=np.int64), C=c_of(method))


def test_C_is_for_the_method_that_has_one() -> None:
    x, y, _ = planted(20, 2, seed=0)
    with pytest.raises(ValueError, match="C=None for logistic"):
        fit("logistic", x, y)
    with pytest.raises(ValueError, match=r"C=1\.0 for lda"):
        fit("lda", x, y, C=1.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_is_the_same_each_time_and_draws_from_no_one_else(method: Method) -> None:
    x, y, _ = planted(50, 4, seed=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (fit(method, x, y, C=c_of(method), seed=3) for _ in range(2))
    assert np.array_equal(one[0], other[0])
    assert one[1] == other[1]
    assert torch.equal(torch.get_rng_state(), before)
    another = fit(method, x, y, C=c_of(method), seed=4)
    assert np.array_equal(one[0], another[0]) == (method != "paper")


@pytest.mark.parametrize(
    ("scale", "loss"),
    [
        (1.0, torch.nn.BCELoss),
        (1.0, torch.nn.BCEWithLogitsLoss),
        # Not BCELoss: above a logit of 17 float32's sigmoid is 1, and where that is most wrong the
        # gradient that autograd takes through it is 0.
        (30.0, torch.nn.BCEWithLogitsLoss),
    ],
)
def test_the_paper_recipe_is_torchs_own_adam_on_torchs_own_linear(
    scale: float, loss: type[torch.nn.Module]
) -> None:
    """Against the recipe as one would write it in torch; 30: logits that saturate at first."""
    x, y, _ = planted(103, 12, seed=12)  # not a multiple of the batch
    x *= scale
    torch.manual_seed(7)
    linear = torch.nn.Linear(12, 1)
    start = linear.weight.detach().numpy()[0].copy()
    order = torch.randperm(103)
    inputs, targets = torch.from_numpy(x)[order], torch.from_numpy(y).float()[order]
    optimiser = torch.optim.Adam(linear.parameters(), lr=5e-4, weight_decay=5e-5)
    for _ in range(120):
        for batch, target in zip(inputs.split(4), targets.split(4), strict=True):
            optimiser.zero_grad()
            logits = linear(batch).squeeze(1)
            outputs = torch.sigmoid(logits) if loss is torch.nn.BCELoss else logits
            loss()(outputs, target).backward()
            optimiser.step()
    weight, bias = fit_paper(x, y, seed=7)
    np.testing.assert_allclose(weight, linear.weight.detach().numpy()[0], atol=TOLERANCE[scale])
    assert bias == pytest.approx(linear.bias.item(), abs=TOLERANCE[scale])
    assert np.abs(weight - start).max() > 0.05  # the control: it went somewhere


def test_mass_mean_by_hand() -> None:
    x = np.array([[0, 0], [0, 2], [4, 0], [4, 2], [4, 1]], dtype=np.float32)
    x[:, 0] += np.array([-1, 1, -1, 1, 0], dtype=np.float32)
    weight, bias = fit_mass_mean(x, np.array([0, 0, 1, 1, 1]))
    # Means (0, 1) and (4, 1); within the classes the first coordinate is off by 1, 1, 1, 1, 0:
    # variance 4 / 5. Slope 4 / 0.8 = 5, zero at 2.
    np.testing.assert_allclose(weight, [5.0, 0.0], atol=1e-6)
    assert bias == pytest.approx(-10.0)


@pytest.mark.parametrize("method", [*METHODS])
@pytest.mark.parametrize("same", ["class", "all"])
def test_rows_that_repeat_give_finite_weights(method: Method, same: str) -> None:
    """Letter tokens at the embeddings are like this: two points, or one."""
    y = np.tile([0, 1], 20)
    x = np.ones((40, 3), np.float32) + (y[:, None] if same == "class" else 0)
    weight, bias = fit(method, x.astype(np.float32), y, C=c_of(method))
    assert np.isfinite(weight).all()
    assert np.isfinite(bias)
    assert auroc(x @ weight + bias, y) == (1.0 if same == "class" else 0.5)


def test_lda_is_scikit_learns_where_rows_abound() -> None:
    x, y, _ = planted(20_000, 6, seed=13)
    x = x * np.geomspace(0.1, 10.0, 6, dtype=np.float32) + 5.0
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, y)
    weight, bias = fit_lda(x, y)
    expected = reference.decision_function(x)
    # Not equal: scikit-learn shrinks each class's covariance on its own and averages them.
    assert np.abs(x @ weight + bias - expected).mean() < 0.02 * expected.std()


def test_lda_finds_the_direction_with_fewer_rows_than_dimensions_where_noise_is_shared() -> None:
    """The noise has one large common direction: shrinkage removes it, mass-mean takes it in."""
    rng = np.random.default_rng(16)
    x, y, _ = planted(240, 200, seed=14, strength=4.0)
    loud = rng.normal(size=200)
    loud /= np.linalg.norm(loud)
    x = (x + np.outer(rng.normal(scale=20, size=240), loud)).astype(np.float32)
    weights = [fit_method(x[:120], y[:120])[0] for fit_method in (fit_lda, fit_mass_mean)]
    lda, mass_mean = (auroc(x[120:] @ weight, y[120:]) for weight in weights)
    assert lda > 0.85
    assert mass_mean < 0.8


@pytest.mark.parametrize("ones_in_three", [1, 2])
def test_logits_are_log_odds_at_the_prior_that_is_stated(ones_in_three: int) -> None:
    """Two Gaussians a distance 2 apart: the true logit has slope 2 and is known."""
    rng = np.random.default_rng(15)
    y = (np.arange(30_000) % 3 < ones_in_three).astype(np.int64)
    x = rng.normal(size=(30_000, 4)).astype(np.float32)
    x[:, 0] += 2 * y
    at_equal_odds = 2 * (x[:, 0] - 1)
    prior = np.log(y.mean() / (1 - y.mean()))
    expected = {"logistic": prior, "lda": prior, "mass-mean": 0.0}
    for method in METHODS:
        if method == "paper":  # 900,000 steps; its loss is logistic's
            continue
        weight, bias = fit(method, x, y, C=c_of(method))
        difference = x @ weight + bias - at_equal_odds
        assert np.abs(difference - expected[method]).mean() < 0.1
