"""The number of model threads per model, and the number of torch threads that each may use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from candor import logs

log = logs.get(__name__)

MAX_DEFAULT_WORKERS = 8
"""Most workers by default. More workers would make batches smaller and answers later before they
make the machine busier."""


def num_workers(requested: int | None, model: nn.Module, *, on_cpu: bool) -> int:
    """Number of batches to run at once.

    The default on a CPU is one batch per core: threads that each have a batch do not wait for each
    other at every layer, so a busy core delays one batch and not all. On other devices the default
    is one batch.
    """
    threads = torch.get_num_threads() if on_cpu else 1
    number = min(threads, MAX_DEFAULT_WORKERS) if requested is None else requested
    if number > 1 and forward_changes_model(model):
        if requested is not None:
            log.warning("one_worker", reason="rotary positions of this model change in its forward")
        return 1
    return number


def forward_changes_model(model: nn.Module) -> bool:
    """Whether a forward writes to the model, so that two threads must not run it at once.

    With dynamic or long rotary positions, transformers replaces the model's rotary frequencies by
    the frequencies for the batch.
    """
    kinds: set[str] = set()
    for module in model.modules():
        kind = getattr(module, "rope_type", None)  # one for all layers, or a dict by layer type
        kinds.update(kind.values() if isinstance(kind, dict) else [kind] if kind else [])
    return any("dynamic" in kind or kind == "longrope" for kind in kinds)


def threads_for(workers: int) -> Callable[[int], None]:
    """Divides torch's threads among `workers` model threads.

    Returns:
        A function to call in a model thread when a batch begins. It takes the number of workers
        whose share the batch has, and sets the number of torch threads of that thread.
    """
    whole = torch.get_num_threads()

    def use(share: int) -> None:
        torch.set_num_threads(max(1, whole * share // workers))

    return use
