"""Passes of the reward model over rows: all layers to disk for fitting, one layer for a test on
changed responses. The engine is built at the first pass that needs one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from candor.engines.choose import build_engine
from candor.engines.packed import PackedEngine
from candor.engines.padded import PaddedEngine
from candor.jobs.running.progress import progress
from candor.models.load import RewardModel
from candor.probes.fitting.activations import (
    TokenActivations,
    activations_key,
    missing_layers,
    read_tokens,
)
from candor.probes.fitting.collect import Sequences, read_responses
from candor.probes.probe import Pooling, Probe, pooled


class RowReader:
    """Reads one reward model's activations.

    The serving engine makes the passes, so that a context that rows share is computed once. An
    engine is built once only: it replaces the model's attention.
    """

    def __init__(self, rm: RewardModel) -> None:
        self.rm = rm

    @cached_property
    def _engine(self) -> PackedEngine | PaddedEngine:
        return build_engine("packed", self.rm.model, [], device=self.rm.device)

    def layers(
        self, sequences: Sequences, layers: list[int], cache: Path, names: Sequence[str]
    ) -> TokenActivations:
        """The activations of all rows at some layers, in a folder of `cache`; no forward for those
        that are there."""
        rm = self.rm
        key = activations_key(
            sequences, weights_sha256=rm.weights_sha256, dtype=rm.dtype, device=rm.device
        )
        engine = self._engine if missing_layers(cache / key, layers) else None
        with progress(len(sequences), "activations", "response") as bar:
            return read_tokens(
                rm.model,
                sequences,
                layers,
                cache / key,
                packed=engine is not None and engine.name == "packed",
                company=None if engine is None else engine.company,
                names=names,
                progress=bar.update,
            )

    def scores(
        self, sequences: Sequences, probe: Probe, poolings: Sequence[Pooling], *, what: str
    ) -> Mapping[Pooling, list[float]]:
        """S of each sequence under each pooling; nothing is kept on disk.

        Args:
            what: the rows, for the progress bar and for error messages.

        Raises:
            ValueError: as `read_responses`.
        """
        found: dict[Pooling, list[float]] = {each: [0.0] * len(sequences) for each in poolings}
        on_device = probe.to(self.rm.device)

        def keep(layer: int, batch: list[int], hidden: Tensor) -> None:
            logits = on_device.logits(hidden).cpu()
            lengths = [sequences[index][2] - sequences[index][1] for index in batch]
            for index, part in zip(batch, torch.split(logits, lengths), strict=True):
                for pooling in poolings:
                    found[pooling][index] = float(pooled(part, pooling))

        with progress(len(sequences), what, "response") as bar:
            read_responses(
                self.rm.model,
                sequences,
                [probe.layer],
                keep,
                packed=self._engine.name == "packed",
                company=self._engine.company,
                names=[f"{what} {index}" for index in range(len(sequences))],
                progress=bar.update,
            )
        return found
