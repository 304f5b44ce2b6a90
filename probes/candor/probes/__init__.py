"""Linear probes: load a probe that was fitted before, and score activations with it by hand.

    loaded = load(Path("probes/sycophancy"))
    probe, bound = loaded.probe, loaded.card.bound.build()
    hidden = model(input_ids, output_hidden_states=True).hidden_states[probe.layer]
    score = probe.pool(probe.logits(hidden[0, response_start:response_end]))
    penalty = 0.5 * bound(score)

`score` is S, a logit: positive means more of the trait. 0.5 is lambda, reward units per logit.
`save` writes a probe and its card. Fitting is `candor.probes.fitting`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from candor.probes.artifact import load, save
    from candor.probes.bound import Bound
    from candor.probes.probe import Probe

__all__ = ["Bound", "Probe", "load", "save"]

_HOMES = {"Bound": "bound", "Probe": "probe", "load": "artifact", "save": "artifact"}


def __getattr__(name: str) -> Any:
    """Imported at first use: modules of this package that need no torch do not load it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
