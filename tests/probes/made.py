"""Material of the probe tests: a card, labelled rows, activations with a planted direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from candor.probes.card import BoundSpec, Calibration, Card, DataInfo, ModelIdentity
from candor.probes.fitting.data import Row
from candor.probes.fitting.transfer import Labelled
from candor.probes.probe import Probe

HIDDEN = 4


def a_probe() -> Probe:
    return Probe("sycophancy", torch.tensor([0.1, -2.5, 3e-8, 7.0]), 0.3, 2, "mean")


def a_card(**changes: Any) -> Card:
    fields: dict[str, Any] = {
        "name": "sycophancy",
        "trait": "The reply sides with the user.",
        "model": ModelIdentity(
            id="tiny", weights_sha256="a" * 64, hidden_size=HIDDEN, num_layers=2
        ),
        "template_sha256": "b" * 64,
        "layer": 2,
        "pooling": "mean",
        "bound": BoundSpec(kind="clip", low=-1.5, high=2.5),
        "calibration": Calibration(
            std_R=0.5,
            std_S=2.0,
            std_bounded_S=0.8,
            percentiles={"p1": -2.0, "p5": -1.0, "p50": 0.0, "p95": 1.0, "p99": 2.0},
            num_prompts=3,
            num_responses=6,
            source="validation split",
        ),
        "metrics": {"test": {"auroc": 0.9, "within_prompt_auroc": None}},
        "data": DataInfo(sha256="c" * 64, num_rows=6, num_groups=3, kinds={"": 6}),
        "versions": {"torch": "2"},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Card(**(fields | changes))


def rows_of(groups: list[str], responses: int = 2) -> list[Row]:
    """`responses` rows a group under one prompt, labels alternating."""
    return [
        Row(group=group, label=index % 2, response=f"{index}", prompt=group)
        for group in groups
        for index in range(responses)
    ]


def planted(
    n: int, d: int, *, seed: int, strength: float = 3.0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """x [n, d], y [n] and the unit direction [d] along which the classes differ; isotropic noise.

    Two equal Gaussians: the best linear direction is exactly the planted one.
    """
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=d)
    direction /= np.linalg.norm(direction)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, d)) + strength * np.outer(y - 0.5, direction)
    return x.astype(np.float32), y, direction.astype(np.float32)


TRAIN, VALIDATION = range(0, 200), range(200, 300)


def labelled(y: np.ndarray, kinds: list[str] | None = None) -> Labelled:
    """Rows 2 n and 2 n + 1 are one group and answer one prompt."""
    groups = [str(row // 2) for row in range(len(y))]
    return Labelled(y, groups, kinds or [""] * len(y), groups, TRAIN, VALIDATION)


KINDS = ["a", "b", "c"]


def shortcut(seed: int = 18) -> tuple[dict[int, np.ndarray], Labelled]:
    """Layer 1 tells the labels of each kind apart by a direction of its own; layer 2 less well, by
    one that all kinds share. Kind `d` has label 0 only."""
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 2
    kinds = [KINDS[row // 2 % 3] for row in range(300)]
    for row in range(0, 300, 10):
        labels[row], kinds[row] = 0, "d"
    own, common = rng.normal(size=(300, 6)), rng.normal(size=(300, 6))
    for row, (kind, label) in enumerate(zip(kinds, labels, strict=True)):
        if kind != "d":
            own[row, KINDS.index(kind)] += 8 * (label - 0.5)
            common[row, 0] += 3 * (label - 0.5)
    return {1: own.astype(np.float32), 2: common.astype(np.float32)}, labelled(labels, kinds)
