"""Labelled activations -> weight and bias of a linear probe, by one of four methods.

Every method gives S = x @ weight + bias on RAW activations: serving needs no mean and no scale.

| method | what it is | the two labels |
| --- | --- | --- |
| logistic | L2-regularised logistic regression (scikit-learn), standardised | as often as in x |
| paper | the paper's recipe, step by step (arXiv 2412.00967, section 3) | as often as in x |
| mass-mean | difference of the class means (arXiv 2310.06824) | equally often |
| lda | linear discriminant with a shrunk covariance (Ledoit-Wolf) | as often as in x |

The last column is the prior in the logit: sigmoid(S) is the probability of label 1 where labels are
that frequent. Nothing is reweighted: a fit weighted to balance would rank almost alike and its
logit would be off by the log odds. Poolings other than the mean are not fitted for; they are chosen
on scores.
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
"""weight [d] float32 and bias; the logit is of label 1: positive = more of the trait."""

MAX_ITERATIONS = 5000

LEAST_SHRINKAGE = 1e-3
"""Ledoit and Wolf's can be 0 where rows repeat (the embedding of two letters, say)."""

PAPER_EPOCHS, PAPER_BATCH = 120, 4
PAPER_LEARNING_RATE, PAPER_WEIGHT_DECAY = 5e-4, 5e-5
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's defaults in torch, which the paper's code leaves as they are."""


def fit(method: Method, x: Floats, y: Ints, *, C: float | None = None, seed: int = 0) -> Fitted:
    """One probe.

    Args:
        x: [n, d] float32.
        y: [n], 0 or 1, both present.
        C: inverse L2 strength; for `logistic`, which needs it, and for no other method.
        seed: of `paper`'s initial weights and order; the others draw nothing.

    Raises:
        ValueError: only one label, or a C too many or missing.
    """
    if (C is not None) != (method == "logistic"):
        raise ValueError(f"C is logistic's and only logistic's, got C={C} for {method}")
    ones = int((y == 1).sum())
    if not 0 < ones < len(y):
        raise ValueError(f"a fit needs both labels, got {ones} ones and {len(y) - ones} zeros")
    if C is not None:
        return fit_logistic(x, y, C)
    if method == "paper":
        return fit_paper(x, y, seed)
    return fit_mass_mean(x, y) if method == "mass-mean" else fit_lda(x, y)


def fit_logistic(x: Floats, y: Ints, C: float) -> Fitted:
    """L2-regularised logistic regression, the standardisation folded back into the weights.

    The paper's loss without its epochs, batch size, learning rate and seed: the problem is convex,
    so a solver that converges has nothing to choose. Without the standardisation the penalty would
    press on every dimension alike, and a few residual-stream dimensions are a hundred times larger
    than the rest. A dimension that never varies gets weight 0.

    Args:
        x, y: as `fit`.
        C: inverse strength of the L2 penalty, scikit-learn's.

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

    lr 5e-4, weight decay 5e-5 (added to the gradient, on the bias too, as torch.optim.Adam does),
    120 epochs, batch 4 with a last one that may be smaller, no early stop. torch's default initial
    weights, then one shuffle of the examples, both under `seed`. Adam is written out because its
    arithmetic on one short vector is all that a step costs; a test holds it to torch.optim.Adam.
    The gradient is taken on the logit: through a float32 sigmoid it is 0 above 17, right or wrong.
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
    f32 = np.float32  # so that no constant widens the arithmetic
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
    """The difference of the class means, zero at their midpoint.

    Its length is set so that S is a log odds: along the direction the classes are taken as two
    Gaussians of equal spread and equally often, whose logit has the slope (distance of the means) /
    (variance within the classes).
    """
    wide = x.astype(np.float64)
    zero, one = wide[y == 0].mean(0), wide[y == 1].mean(0)
    direction = one - zero
    along = wide @ direction
    within = np.where(y == 1, along - one @ direction, along - zero @ direction).var()
    weight = direction * (direction @ direction / within if within > 0 else 1.0)
    return weight.astype(np.float32), float(-weight @ (zero + one) / 2)


def fit_lda(x: Floats, y: Ints) -> Fitted:
    """Linear discriminant: the logit of two Gaussians with one covariance, estimated by shrinkage.

    The covariance within the classes, of standardised dimensions, is drawn towards a multiple of
    the identity by Ledoit and Wolf's closed form, which keeps it invertible where there are more
    dimensions than rows.
    """
    wide = x.astype(np.float64)
    scaler = StandardScaler().fit(wide)
    unit = scaler.transform(wide)
    zero, one = unit[y == 0].mean(0), unit[y == 1].mean(0)
    centred = unit - np.where(y[:, None] == 1, one, zero)
    covariance = centred.T @ centred / len(centred)
    shrinkage = max(ledoit_wolf_shrinkage(centred, assume_centered=True), LEAST_SHRINKAGE)
    towards = np.trace(covariance) / len(covariance) or 1.0
    covariance *= 1 - shrinkage
    covariance[np.diag_indices_from(covariance)] += shrinkage * towards
    weight = np.linalg.solve(covariance, one - zero)
    bias = np.log(y.mean() / (1 - y.mean())) - weight @ (zero + one) / 2
    weight /= scaler.scale_
    return weight.astype(np.float32), float(bias - weight @ scaler.mean_)
