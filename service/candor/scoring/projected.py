"""Takes the directions of the projected probes out of a model (`candor.forward.projection`)."""

from __future__ import annotations

import torch
from torch import nn

from candor import logs
from candor.flags import UsageError
from candor.forward.projection import plane, project_out
from candor.probes.probe import Probe
from candor.scoring.served import Served

log = logs.get(__name__)


def project(model: nn.Module, served: Served, device: torch.device | str) -> None:
    """Projects the model for good, out of all probes with the method `project`. The engine must be
    built afterwards, so that it is checked against the projected model.

    Raises:
        UsageError: two projected probes of a layer contradict each other.
    """
    layers: dict[int, list[Probe]] = {}
    for name in sorted(served.projected):
        probe = served.everything[name].loaded.probe
        layers.setdefault(probe.layer, []).append(probe)
    if not layers:
        return
    try:
        planes = {
            layer: plane(
                torch.stack([probe.weight for probe in probes]),
                torch.tensor([probe.bias for probe in probes]),
            )
            for layer, probes in layers.items()
        }
    except ValueError as error:
        raise UsageError(f"--method project: {error}; project one of the probes") from None
    project_out(model, planes, device)
    log.info("projected", probes=sorted(served.projected), layers=sorted(planes))
    lowest = min(planes)
    if behind := [name for name, probe in served.probes.items() if probe.layer > lowest]:
        log.warning(
            "probes_read_the_projected_model",
            probes=behind,
            reason="they read a layer behind a projection, and were fitted and calibrated without "
            "it, so their cards do not describe their S here",
        )
