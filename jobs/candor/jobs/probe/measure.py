"""The quality of a fitted probe in numbers: the card's metrics and the data of the report.

The test part is opened in `measure` alone, once, when everything is chosen. Nothing is fitted here
except the controls and the transfer table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from candor.errors import CandorError
from candor.jobs.probe.material import LabelledRows, encode, renderer_of
from candor.jobs.probe.reader import RowReader
from candor.jobs.probe.stress.both import stress
from candor.jobs.probe.stress.flagged import flagged_by_direction
from candor.jobs.probe.stress.words import words_control
from candor.models.load import RewardModel
from candor.probes.fitting import evaluate
from candor.probes.fitting.activations import LayerActivations
from candor.probes.fitting.collect import Floats, Sequences
from candor.probes.fitting.reliability import brier, expected_calibration_error, reliability
from candor.probes.fitting.select import Candidate, Select
from candor.probes.probe import Probe
from candor.text.request import ChatMessage

CONTROL_KIND = "genuine-agreement"
"""The kind in which the user is right and agreeing is correct (`candor.probes.kinds.agreement`)."""

TARGET_TPR = 0.8
"""Share of the validation rows of label 1 above the genuine-agreement threshold."""

EXAMPLES_PER_LABEL = 4

CHOSEN_FIELDS = ("layer", "method", "C", "pooling")

KIND_FIELDS = (
    "num_rows", "num_groups", "num_mixed_prompts", "auroc", "auroc_low", "auroc_high",
    "within_prompt_auroc", "within_prompt_auroc_low", "within_prompt_auroc_high", "tpr_at_1_fpr",
)  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """The chosen probe, its layer's activations, and S of every row, [n] float32.

    `without` holds, by kind, S of every row under the probe that was fitted and chosen without this
    kind, and that probe.
    """

    chosen: Candidate
    activations: LayerActivations
    scores: Floats
    without: Mapping[str, tuple[Candidate, Floats]]
    select: Select
    seed: int


def score_all(activations: LayerActivations, chosen: Candidate, num_rows: int) -> Floats:
    """S of every row, pooled as the server pools it: [n] float32."""
    bias = np.array([chosen.bias], dtype=np.float32)
    rows = range(num_rows)
    scores: Floats = activations.scores(chosen.weight[None, :], bias, rows, chosen.pooling)[0]
    return scores


def measure(
    data: LabelledRows, reader: RowReader, sequences: Sequences, fitted: Fitted, probe: Probe
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The card's metrics, and the report's further data. Opens the test part.

    Returns:
        metrics, and the report's keys `kinds`, `transfer`, `genuine_agreement`, `flagged`,
        `reliability`, `scores`, `examples`, `controls`, `words`, `long_texts`, `telltale`.
    """
    rm = reader.rm
    labels, train = data.labels, data.labelled.train
    lengths = np.array([end - start for _, start, end in sequences])
    sign = evaluate.length_sign(lengths[list(train)], labels[list(train)])

    def part(rows: list[int]) -> dict[str, Any]:
        scores = fitted.scores[rows], labels[rows]
        measured = evaluate.summarise(
            *scores, data.contexts(rows), data.groups(rows), seed=fitted.seed
        )
        return measured | {
            "length_auroc": evaluate.auroc(sign * lengths[rows], labels[rows]),
            "length_within_prompt_auroc": evaluate.within_prompt_auroc(
                sign * lengths[rows], labels[rows], data.contexts(rows)
            ),
            "expected_calibration_error": expected_calibration_error(reliability(*scores)),
            "brier": brier(*scores),
        }

    shuffled = _shuffled(data, fitted)
    metrics: dict[str, Any] = {
        "fit": _fit(data, rm, fitted),
        "validation": part(list(data.labelled.validation)),
        "shuffled_labels": {
            "mean_auroc": float(np.mean(shuffled)),
            "max_auroc": max(shuffled),
            "permutations": len(shuffled),
        },
    }
    test = list(data.split.test.open())
    kept = data.kept(test)
    shared: dict[str, Any] = {
        "kinds": kind_table(data, fitted, test),
        "transfer": transfer_table(data, fitted, test),
        "genuine_agreement": genuine_agreement(data, fitted, test),
        "flagged": flagged_by_direction(data, fitted.scores, kept),
    }
    words, measured_words = words_control(data, test, fitted.seed)
    metrics |= {"test": part(kept), "words": measured_words, **shared}
    report = shared | {
        "words": words.model_dump(),
        "reliability": [asdict(b) for b in reliability(fitted.scores[kept], labels[kept])],
        "scores": _test_scores(data, fitted, test),
        "examples": examples(data, rm, sequences, fitted, test),
        "controls": _controls(metrics),
        **stress(data, reader, probe, kept, fitted.seed),
    }
    return metrics, report


def _test_scores(data: LabelledRows, fitted: Fitted, test: Sequence[int]) -> list[dict[str, Any]]:
    rows = ((data.rows[index], float(fitted.scores[index])) for index in test)
    return [{"kind": row.kind, "label": row.label, "score": score} for row, score in rows]


def _controls(metrics: Mapping[str, Any]) -> dict[str, Any]:
    test, shuffled = metrics["test"], metrics["shuffled_labels"]
    return {
        "length_auroc": test["length_auroc"],
        "length_within_prompt_auroc": test["length_within_prompt_auroc"],
        "shuffled_mean_auroc": shuffled["mean_auroc"],
        "shuffled_max_auroc": shuffled["max_auroc"],
    }


def kind_table(data: LabelledRows, fitted: Fitted, test: Sequence[int]) -> list[dict[str, Any]]:
    """The final probe on the test rows of each kind, held-out kinds included."""
    kinds = sorted({data.rows[index].kind for index in test})
    return [
        _kind_row(data, kind, rows, fitted.scores[rows], fitted.seed)
        for kind in kinds
        for rows in [data.of_kind(kind, test)]
    ]


def transfer_table(data: LabelledRows, fitted: Fitted, test: Sequence[int]) -> list[dict[str, Any]]:
    """Each kind's test rows under a probe that was fitted and chosen without any row of this kind.

    Layer, method, C and pooling may differ from the final probe's: `chosen` says which. For the
    held-out kinds it is the final probe. Empty where fewer than two kinds have both labels and no
    kind is held out.
    """
    found = []
    for kind in data.held_out_kinds:
        rows = data.of_kind(kind, test)
        if len(set(data.labels[rows].tolist())) == 2:
            row = _kind_row(data, kind, rows, fitted.scores[rows], fitted.seed)
            found.append(row | {"chosen": setting_of(fitted.chosen)})
    for kind, (chosen, scores) in fitted.without.items():
        rows = data.of_kind(kind, test)
        row = _kind_row(data, kind, rows, scores[rows], fitted.seed)
        found.append(row | {"chosen": setting_of(chosen)})
    return sorted(found, key=lambda row: str(row["kind"]))


def setting_of(chosen: Candidate) -> dict[str, Any]:
    """Layer, method, C and pooling."""
    return {name: getattr(chosen, name) for name in CHOSEN_FIELDS}


def genuine_agreement(
    data: LabelledRows, fitted: Fitted, test: Sequence[int]
) -> dict[str, float | int] | None:
    """How often the probe flags rows of kind `CONTROL_KIND`; None where there are no such rows.

    A row is flagged at or above the threshold that `TARGET_TPR` of the validation rows of label 1
    reach. `tpr` and `fpr` are the shares of flagged rows among the test rows of label 1 and of kind
    `CONTROL_KIND`.
    """
    control = data.of_kind(CONTROL_KIND, test)
    if not control:
        return None
    ones_of_validation = [index for index in data.labelled.validation if data.labels[index] == 1]
    ones = [index for index in data.kept(test) if data.labels[index] == 1]
    threshold = evaluate.threshold_at_tpr(fitted.scores[ones_of_validation], TARGET_TPR)
    return {
        "threshold": threshold,
        "tpr": evaluate.rate_above(fitted.scores[ones], threshold),
        "fpr": evaluate.rate_above(fitted.scores[control], threshold),
        "num_rows": len(control),
    }


def examples(
    data: LabelledRows, rm: RewardModel, sequences: Sequences, fitted: Fitted, test: Sequence[int]
) -> list[dict[str, Any]]:
    """A few test rows with the logit of every token that the probe reads."""
    renderer = renderer_of(rm)
    weight, bias = fitted.chosen.weight[None, :], np.array([fitted.chosen.bias], dtype=np.float32)
    found = []
    for index in _example_rows(data, test):
        row, (_, start, end) = data.rows[index], sequences[index]
        if not isinstance(response := row.response, str):
            continue
        try:
            item = encode(renderer, row, want_tokens=True)
        except CandorError:  # the template rewrites this response, so its tokens have no offsets
            continue
        logits = fitted.activations.token_logits(weight, bias, index)[0]
        spans = item.offsets[start - item.response_start : end - item.response_start]
        turns = [
            f"{turn.role}: {''.join(ChatMessage.of(turn).texts)}" for turn in row.messages or ()
        ]
        found.append(
            {
                "kind": row.kind,
                "label": row.label,
                "context": "\n\n".join(turns) if row.prompt is None else row.prompt,
                "response": response,
                "score": float(fitted.scores[index]),
                "tokens": [
                    {"text": response[low:high], "logit": float(logit)}
                    for (low, high), logit in zip(spans, logits, strict=True)
                ],
            }
        )
    return found


def _example_rows(data: LabelledRows, test: Sequence[int]) -> list[int]:
    """`EXAMPLES_PER_LABEL` rows of each label, from the kinds in turn, in the data's order."""
    found: list[int] = []
    for label in (1, 0):
        waiting: dict[str, list[int]] = {}
        for index in test:
            if data.rows[index].label == label:
                waiting.setdefault(data.rows[index].kind, []).append(index)
        turns = [
            rows[turn] for turn in range(EXAMPLES_PER_LABEL)
            for _, rows in sorted(waiting.items()) if turn < len(rows)
        ]  # fmt: skip
        found += turns[:EXAMPLES_PER_LABEL]
    return found


def _kind_row(
    data: LabelledRows, kind: str, rows: list[int], scores: Floats, seed: int
) -> dict[str, Any]:
    measured = evaluate.summarise(
        scores, data.labels[rows], data.contexts(rows), data.groups(rows), seed=seed
    )
    return {"kind": kind, **{name: measured[name] for name in KIND_FIELDS}}


def _fit(data: LabelledRows, rm: RewardModel, fitted: Fitted) -> dict[str, Any]:
    chosen = fitted.chosen
    return {
        "method": chosen.method,
        "C": chosen.C,
        "select": fitted.select,
        "held_out_kinds": list(data.held_out_kinds),
        "train_auroc": chosen.train_auroc,
        "validation_ranking": chosen.validation_ranking,
        "transfer_ranking": chosen.transfer_ranking,
        "dtype": rm.dtype,
        "seed": fitted.seed,
    }


def _shuffled(data: LabelledRows, fitted: Fitted) -> list[float]:
    means, train = fitted.activations.means, list(data.labelled.train)
    validation, chosen = list(data.labelled.validation), fitted.chosen
    return evaluate.shuffled_label_aurocs(
        means[train],
        data.labels[train],
        means[validation],
        data.labels[validation],
        method=chosen.method,
        C=chosen.C,
        seed=fitted.seed,
    )
