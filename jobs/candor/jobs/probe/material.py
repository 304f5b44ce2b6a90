"""The input of `candor probe train`: labelled rows, their split, and the tokens a probe reads.

Wrong data is refused here, by file and line, before the pass over the model that takes hours.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from candor.errors import CandorError
from candor.item import Item, Remark
from candor.models.load import RewardModel
from candor.probes.fitting.calibrate import shared_contexts
from candor.probes.fitting.collect import Sequences
from candor.probes.fitting.data import Row, load_files
from candor.probes.fitting.fit import Ints
from candor.probes.fitting.split import Split, split_rows
from candor.probes.fitting.transfer import Labelled
from candor.text.render import Renderer
from candor.text.request import reply_of, scoring_context

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows, their places (file:line), their split, and the kinds held out of the fit.

    The kept rows, all rows except those of the held-out kinds, are used for fitting, choosing and
    calibrating.
    """

    rows: list[Row]
    places: list[str]
    split: Split
    held_out_kinds: tuple[str, ...]

    @cached_property
    def labels(self) -> Ints:
        return np.array([row.label for row in self.rows], dtype=np.int64)

    @cached_property
    def labelled(self) -> Labelled:
        """The kept rows of train and validation, for fitting and choosing."""
        train, validation = self.kept(self.split.train), self.kept(self.split.validation)
        return Labelled(
            self.labels,
            groups=[row.group for row in self.rows],
            kinds=[row.kind for row in self.rows],
            contexts=[row.context for row in self.rows],
            train=train,
            validation=validation,
        )

    def kept(self, indices: Sequence[int]) -> list[int]:
        return [i for i in indices if self.rows[i].kind not in self.held_out_kinds]

    def groups(self, indices: Sequence[int]) -> list[str]:
        return [self.rows[index].group for index in indices]

    def contexts(self, indices: Sequence[int]) -> list[str]:
        return [self.labelled.contexts[index] for index in indices]

    def of_kind(self, kind: str, indices: Sequence[int]) -> list[int]:
        return [index for index in indices if self.rows[index].kind == kind]


def read_data(data: Sequence[Path], seed: int, hold_out: Sequence[str] = ()) -> LabelledRows:
    """The rows and their split. What calibration would refuse is refused now, not hours later.

    Raises:
        ValueError: a line is not a row, the rows cannot be split, fitted or calibrated on, or a
            kind to hold out is not in the data.
    """
    rows, places = load_files(data)
    kinds = sorted({row.kind for row in rows})
    if unknown := sorted(set(hold_out) - set(kinds)):
        raise ValueError(f"--hold-out-kind {unknown[0]!r}: the data has the kinds {kinds}")
    found = LabelledRows(
        rows, places, split_rows(rows, seed, places=places), tuple(sorted(set(hold_out)))
    )
    kept = found.labelled
    for part, indices in (("train", kept.train), ("validation", kept.validation)):
        if {rows[index].label for index in indices} != {0, 1}:
            raise ValueError(
                f"without the kinds held out ({', '.join(hold_out)}) the {part} part lacks a label"
            )
    shared_contexts([rows[index].context for index in kept.validation])
    return found


def renderer_of(rm: RewardModel) -> Renderer:
    """The renderer that serving uses for this reward model."""
    return rm.renderer()


def encode(renderer: Renderer, row: Row, *, want_tokens: bool) -> Item:
    """The row's tokens, as the server reads them.

    Raises:
        CandorError: as `Renderer.encode`.
    """
    return renderer.encode(
        scoring_context(row.item), reply_of(row.response), want_tokens=want_tokens
    )


def tokenise(rows: Sequence[Row], rm: RewardModel, places: Sequence[str]) -> Sequences:
    """Token ids, and the range that the probe reads: the response, or the row's `span`.

    The server's renderer makes them, so training and serving read the same tokens. What the server
    would say about a text (`Item.remarks`) is logged once, with the first row that it is about. A
    span takes in every token that it overlaps.

    Args:
        places: each row's name in messages, such as file:line.

    Raises:
        ValueError: the server would refuse a row; the message is `file:line: reason`.
    """
    renderer = renderer_of(rm)
    sequences = []
    remarks: dict[Remark, str] = {}
    for row, place in zip(rows, places, strict=True):
        try:
            item = encode(renderer, row, want_tokens=row.span is not None)
        except CandorError as error:
            raise ValueError(f"{place}: {error.message}") from error
        for remark in item.remarks:
            if remarks.setdefault(remark, place) == place:
                log.warning("%s: %s", place, remark.message)
        first, last = item.response_start, item.response_end
        if row.span is not None:
            start, end = row.span
            inside = [n for n, (low, high) in enumerate(item.offsets) if low < end and high > start]
            if not inside:
                raise ValueError(f"{place}: span: no token of the response is in {[start, end]}")
            first, last = first + inside[0], first + inside[-1] + 1
        sequences.append((item.token_ids, first, last))
    return sequences


def parse_layers(text: str, num_layers: int) -> list[int]:
    """`all`, `1-30`, `12,16,20` or `1-4,8` as sorted indices into hidden_states.

    Raises:
        ValueError: the text is not of this form, or the model does not have such a layer.
    """
    if text == "all":
        return list(range(num_layers + 1))
    layers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            layers.update(range(int(first), int(last or first) + 1))
        except ValueError:
            raise ValueError(f"--layers {text!r}: use all, 1-30 or 12,16,20") from None
    if not layers or max(layers) > num_layers:
        raise ValueError(f"--layers {text!r}: this model has layers 0 to {num_layers}")
    return sorted(layers)
