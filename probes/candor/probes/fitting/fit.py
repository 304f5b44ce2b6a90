"""Labelled activations -> weight and bias of a linear probe, by one of four methods.

Every method gives S = x @ weight + bias on RAW activations: serving needs no mean and no scale.

| method | description | prior of the labels |
| --- | --- | --- |
| logistic | L2-regularised logistic regression (scikit-learn), standardised | as frequent as in x |
| paper | the paper's recipe, step by step (arXiv 2412.00967, section 3) | as frequent as in x |
| mass-mean | difference of the class means (arXiv 2310.06824) | equally frequent |
| lda | linear discriminant with a shrunk covariance (Ledoit-Wolf) | as frequent as in x |

sigmoid(S) is the probability of label 1 where the labels have the prior of the last column. Rows
are not reweighted: a fit with balanced weights would rank almost alike, and its logit would be off
by the log odds. All methods fit on means; other poolings are tried on the fitted weights
(`candor.probes.fitting.select`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

Method = Literal["logistic", "paper", "mass-mean", "lda"]
METHODS: tuple[Method, ...] = ("logistic", "paper", "mass-mean", "lda")

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Fitted = tuple[Floats, float]
"""weight [d] float32 and bias. S is the logit of label 1: positive = more of the trait."""

MAX_ITERATIONS = 5000

MIN_SHRINKAGE = 1e-3
"""Ledoit and Wolf's shrinkage can be 0 where rows repeat, as the embeddings of two letters do."""

PAPER_EPOCHS, PAPER_BATCH = 120, 4
PAPER_LEARNING_RATE, PAPER_WEIGHT_DECAY = 5e-4, 5e-5
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's defaults in torch, which the paper's code leaves as they are."""


def fit(method: Method, x: Floats, y: Ints, *, C: float | None = None, seed: int = 0) -> Fitted:
    """Fits one probe.

    Args:
        x: [n, d] float32.
        y: [n], 0 or 1, both present.
        C: inverse L2 strength; required for `logistic`, and for no other method.
        seed: decides the initial weights and the order of the rows in `paper`; the other methods
            draw nothing.

    Raises:
        ValueError: there is only one label, or C is missing or does not belong to the method.
    """
    if (C is not None) != (method == "logistic"):
        raise ValueError(f"only method logistic has a C, and must have it; got C={C} for {method}")
    ones = int((y == 1).sum())
    if not 0 < ones < len(y):
        raise ValueError(f"a fit needs both labels, got {ones} ones and {len(y) - ones} zeros")
    if C is not None:
        return fit_logistic(x, y, C)
    if method == "paper":
        return fit_paper(x, y, seed)
    return fit_mass_mean(x, y) if method == "mass-mean" else fit_lda(x, y)


def fit_logistic(x: Floats, y: Ints, C: float) -> Fitted:
    """L2-regularised logistic regression on standardised activations; the standardisation is folded
    back into the weights.

    The loss is the paper's, without epochs, batch size, learning rate and seed: the problem is
    convex, so a converged solution does not depend on them. Without standardisation the penalty
    would weigh on every dimension alike, and a few residual-stream dimensions are a hundred times
    larger than the rest. A dimension that never varies gets weight 0.

    Args:
        x, y: as `fit`.
        C: inverse strength of the L2 penalty, as scikit-learn defines it.

    Raises:
        sklearn.exceptions.ConvergenceWarning: (warning) not converged in `MAX_ITERATIONS`.
    """
    scaler = StandardScaler().fit(x.astype(np.float64))
    regression = LogisticRegression(C=C, max_iter=MAX_ITERATIONS)
    regression.fit(scaler.transform(x.astype(np.float64)), y)
    weight = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - weight @ scaler.mean_
    return weight.astype(np.float32), float(bias)


def fit_paper(x: Floats, y: Ints, seed: int) -> Fitted:
    """Linear(d, 1) with bias on raw activations, binary cross-entropy, Adam, as the paper ran it.

    Learning rate 5e-4, weight decay 5e-5 (added to the gradient, also for the bias, as
    torch.optim.Adam does), 120 epochs, batches of 4 (the last may be smaller), no early stop. The
    seed decides torch's default initial weights and one shuffle of the examples. Adam is written
    out in numpy, since a step is little more than arithmetic on one short vector; a test compares
    it with torch.optim.Adam. The gradient is taken on the logit: through a float32 sigmoid it would
    be 0 for every logit above 17, right or wrong.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(x.shape[1], 1)
        order = torch.randperm(len(x)).numpy()
    w = torch.cat([layer.weight.detach()[0], layer.bias.detach()]).numpy()
    with_one = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)[order]
    starts = range(0, len(x), PAPER_BATCH)
    batches = [with_one[i : i + PAPER_BATCH] for i in starts]
    targets = [y[order[i : i + PAPER_BATCH]].astype(np.float32) for i in starts]
    m, v, step = np.zeros_like(w), np.zeros_like(w), 0
    f32 = np.float32  # a Python float would make the arithmetic float64
    # exp overflows to inf for a logit below -88, and 1 / inf is the right probability.
    with np.errstate(over="ignore"):
        for batch, target in PAPER_EPOCHS * list(zip(batches, targets, strict=True)):
            step += 1
            sigmoid = 1 / (1 + np.exp(-(batch @ w)))
            gradient = ((sigmoid - target) / f32(len(target))) @ batch
            gradient += f32(PAPER_WEIGHT_DECAY) * w
            m += f32(1 - BETA1) * (gradient - m)
            v *= f32(BETA2)
            v += f32(1 - BETA2) * gradient * gradient
            down = np.sqrt(v)
            down *= f32((1 - BETA2**step) ** -0.5)
            down += f32(EPSILON)
            w -= f32(PAPER_LEARNING_RATE / (1 - BETA1**step)) * m / down
    return w[:-1].copy(), float(w[-1])


def fit_mass_mean(x: Floats, y: Ints) -> Fitted:
    """The difference of the class means as direction, with S = 0 at their midpoint.

    The weight is scaled so that S is a log odds: along the direction the classes are taken to be
    two equally frequent Gaussians of equal variance, whose logit has the slope (distance of the
    means) / (variance within the classes).
    """
    wide = x.astype(np.float64)
    mean_0, mean_1 = wide[y == 0].mean(0), wide[y == 1].mean(0)
    direction = mean_1 - mean_0
    along = wide @ direction
    within = np.where(y == 1, along - mean_1 @ direction, along - mean_0 @ direction).var()
    weight = direction * (direction @ direction / within if within > 0 else 1.0)
    return weight.astype(np.float32), float(-weight @ (mean_0 + mean_1) / 2)


def fit_lda(x: Floats, y: Ints) -> Fitted:
    """Linear discriminant: the logit of two Gaussians with one covariance, estimated by shrinkage.

    Dimensions are standardised. Ledoit and Wolf's closed form moves the covariance within the
    classes towards a multiple of the identity, which keeps it invertible with more dimensions than
    rows.
    """
    wide = x.astype(np.float64)
    scaler = StandardScaler().fit(wide)
    unit = scaler.transform(wide)
    mean_0, mean_1 = unit[y == 0].mean(0), unit[y == 1].mean(0)
    centred = unit - np.where(y[:, None] == 1, mean_1, mean_0)
    covariance = centred.T @ centred / len(centred)
    shrinkage = max(ledoit_wolf_shrinkage(centred, assume_centered=True), MIN_SHRINKAGE)
    towards = np.trace(covariance) / len(covariance) or 1.0
    covariance *= 1 - shrinkage
    covariance[np.diag_indices_from(covariance)] += shrinkage * towards
    weight = np.linalg.solve(covariance, mean_1 - mean_0)
    bias = np.log(y.mean() / (1 - y.mean())) - weight @ (mean_0 + mean_1) / 2
    weight /= scaler.scale_
    return weight.astype(np.float32), float(bias - weight @ scaler.mean_)
