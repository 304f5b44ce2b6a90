"""How many model threads share one model, and how many of the machine's threads each has."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from candor import logs

log = logs.get(__name__)

MAX_DEFAULT_WORKERS = 8
"""More would make batches small and answers late before they make a machine busier."""


def num_workers(asked: int | None, model: nn.Module, *, on_cpu: bool) -> int:
    """Batches to run at once.

    On a CPU one a core unless told: threads that each have a batch do not wait for each other at
    every layer, so a busy core delays one batch and not all. Elsewhere one batch runs at a time.
    """
    threads = torch.get_num_threads() if on_cpu else 1
    number = min(threads, MAX_DEFAULT_WORKERS) if asked is None else asked
    if number > 1 and changes_in_its_forward(model):
        if asked is not None:
            log.warning("one_worker", reason="rotary positions of this model change in its forward")
        return 1
    return number


def changes_in_its_forward(model: nn.Module) -> bool:
    """Whether a forward writes to the model: with dynamic or long rotary positions transformers
    replaces their frequencies by those for the batch it sees, under any other thread's feet."""
    kinds: set[str] = set()
    for module in model.modules():
        kind = getattr(module, "rope_type", None)  # of all layers, or by layer type
        kinds.update(kind.values() if isinstance(kind, dict) else [kind] if kind else [])
    return any("dynamic" in kind or kind == "longrope" for kind in kinds)


def threads_for(workers: int) -> Callable[[int], None]:
    """Gives the calling thread its share of torch's threads, as a batch begins in it.

    Returns:
        a function of how many workers' shares the batch has.
    """
    whole = torch.get_num_threads()

    def use(share: int) -> None:
        torch.set_num_threads(max(1, whole * share // workers))

    return use
