"""What `report.json` of a probe says, made up: numbers that a page must show as they are."""

from __future__ import annotations

from copy import deepcopy
from typing import Any


def entry(kind: str, auroc: float | None, **more: Any) -> dict[str, Any]:
    sides = (None, None) if auroc is None else (auroc - 0.06, min(1.0, auroc + 0.05))
    return {
        "kind": kind,
        "num_rows": 40,
        "num_groups": 10,
        "auroc": auroc,
        "auroc_low": sides[0],
        "auroc_high": sides[1],
        "within_prompt_auroc": auroc,
        "tpr_at_1_fpr": None if auroc is None else 0.31,
        **more,
    }


SWEEP = [
    {
        "layer": layer,
        "method": method,
        "C": 0.01 if method == "logistic" else None,
        "pooling": "mean",
        "train_auroc": 0.99,
        "validation_auroc": 0.6 + 0.1 * layer,
        "validation_ranking": 0.7,
        "transfer_ranking": 0.55 + 0.1 * layer if method == "logistic" else None,
    }
    for layer in range(3)
    for method in ("logistic", "lda")
]
FLAGGED = [
    {
        "direction": "quoted",
        "num_rows": 120,
        "num_groups": 60,
        "flagged": 0.345,
        "low": 0.25,
        "high": 0.44,
        "caught": 0.812,
        "threshold": 0.4,
    },
    {
        "direction": "right",
        "num_rows": 40,
        "num_groups": 1,
        "flagged": 0.07,
        "low": None,
        "high": None,
        "caught": 0.812,
        "threshold": 0.4,
    },
]
RELIABILITY = [
    {
        "low": 0.0,
        "high": 0.5,
        "mean_probability": 0.2,
        "share_positive": 0.25,
        "num_rows": 40,
    },
    {
        "low": 0.5,
        "high": 1.0,
        "mean_probability": None,
        "share_positive": None,
        "num_rows": 0,
    },
]
SCORES = [
    {"kind": kind, "label": label, "score": label + 0.1 * number}
    for kind in ("poems", "surveys", "agreement")
    for label in (0, 1)
    for number in range(8)
    if (kind, label) != ("agreement", 1)
]
TOKENS = [{"text": text, "logit": logit} for text, logit in (("You", 2.0), (" <b>", -1.0))]
EXAMPLES = [
    {
        "kind": "poems",
        "label": 1,
        "context": "I like it & <i>you</i>",
        "response": "You <b>",
        "score": 0.5,
        "tokens": TOKENS,
    }
]
LONG_TEXTS = {
    "num_rows": 44,
    "num_left_out": 3,
    "lengths": [
        {
            "factor": factor,
            "mean_tokens": 12.4 * factor,
            "poolings": {
                "mean": {"auroc": mean, "auroc_low": mean - 0.1, "auroc_high": mean + 0.05},
                "rolling-max": {"auroc": 0.77, "auroc_low": None, "auroc_high": None},
            },
        }
        for factor, mean in ((1, 0.91), (4, 0.74), (16, 0.58))
    ],
}
TELLTALE = {
    "num_rows": 61,
    "num_left_out": 7,
    "words": {"thank": 2.125, "you": -1.5},
    "control_words": ["sea", "poem"],
    "arms": [
        {"name": "as they are", "num_changed": 0, **entry("", 0.91)},
        {"name": "without tell-tale words", "num_changed": 60, **entry("", 0.62)},
        {"name": "without other words", "num_changed": 59, **entry("", 0.88)},
    ],
}


def make_report() -> dict[str, Any]:
    """A copy of the whole report, to spoil."""
    return deepcopy(
        {
            "name": "sycophancy",
            "chosen": {"layer": 1, "method": "logistic", "C": 0.01, "pooling": "mean"},
            "metrics": {"test": {"auroc": 0.87}},
            "sweep": SWEEP,
            "kinds": [entry("poems", 0.91), entry("surveys", 0.83), entry("agreement", None)],
            "transfer": [entry("poems", 0.72), entry("surveys", 0.53), entry("agreement", None)],
            "genuine_agreement": {"threshold": 0.4, "tpr": 0.8, "fpr": 0.234, "num_rows": 40},
            "flagged": FLAGGED,
            "reliability": RELIABILITY,
            "scores": SCORES,
            "examples": EXAMPLES,
            "long_texts": LONG_TEXTS,
            "telltale": TELLTALE,
            "controls": {
                "length_auroc": 0.51,
                "length_within_prompt_auroc": 0.52,
                "shuffled_mean_auroc": 0.49,
                "shuffled_max_auroc": 0.58,
            },
        }
    )
