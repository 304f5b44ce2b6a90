"""`fit_logistic`: labelled activations -> weight and bias of a linear probe.

L2-regularised logistic regression by scikit-learn, where the paper runs Adam on the same loss
(binary cross-entropy with weight decay): the problem is convex, so a solver that converges gives
the same kind of probe without epochs, batch size, learning rate and seed to choose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

MAX_ITERATIONS = 5000


def fit_logistic(
    x: NDArray[np.float32], y: NDArray[np.int64], C: float
) -> tuple[NDArray[np.float32], float]:
    """Fits on standardised activations and folds the standardisation back into the weights.

    Without it the penalty would press on every dimension alike, and a few residual-stream
    dimensions are a hundred times larger than the rest. After folding, S = x @ weight + bias on RAW
    activations, so that serving needs no mean and scale. A dimension that never varies gets weight
    0.

    Args:
        x: [n, d] float32.
        y: [n], 0 or 1, both present.
        C: inverse strength of the L2 penalty, scikit-learn's.

    Returns:
        weight [d] float32, bias. The logit is of P(label 1): positive = more of the trait.

    Raises:
        ValueError: only one label.
        sklearn.exceptions.ConvergenceWarning: (warning) not converged in `MAX_ITERATIONS`.
    """
    scaler = StandardScaler().fit(x.astype(np.float64))
    regression = LogisticRegression(C=C, max_iter=MAX_ITERATIONS)
    regression.fit(scaler.transform(x.astype(np.float64)), y)
    weight = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - weight @ scaler.mean_
    return weight.astype(np.float32), float(bias)
