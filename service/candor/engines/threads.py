"""How the model threads share a machine: how many there are, how many torch threads each may use,
and the memory that each gives back.

glibc keeps what a thread frees in an arena of that thread, and a long-lived block (a cached
context's keys and values) holds back all free memory below it in the arena. With a 135M model on
two threads, the process grew to 4 GB; with the trim after a batch it uses 1.4 GB.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import nn

from candor import logs
from candor.forward.company import Company

log = logs.get(__name__)

MAX_DEFAULT_WORKERS = 8
"""Most workers by default. More workers would make batches smaller and answers later before they
make the machine busier."""


MIN_TRIM_TOKENS = 1024
"""Smallest batch, in computed tokens, after which memory is trimmed. A trim takes some
milliseconds."""


def choose_num_workers(requested: int | None, model: nn.Module, *, on_cpu: bool) -> int:
    """Number of batches to run at once.

    The default on a CPU is one batch per core: threads that each have a batch do not wait for each
    other at every layer, so a busy core delays one batch and not all. On other devices the default
    is one batch.
    """
    threads = torch.get_num_threads() if on_cpu else 1
    number = min(threads, MAX_DEFAULT_WORKERS) if requested is None else requested
    if number > 1 and Company(model).changes_model:
        if requested is not None:
            log.warning("one_worker", reason="rotary positions of this model change in its forward")
        return 1
    return number


def threads_for(num_workers: int) -> Callable[[int], None]:
    """Divides torch's threads among `num_workers` model threads.

    Returns:
        A function to call in a model thread when a batch begins. It takes the number of workers
        whose cores the batch may use, and sets the number of torch threads of that thread.
    """
    num_threads = torch.get_num_threads()

    def use(num_shares: int) -> None:
        torch.set_num_threads(max(1, num_threads * num_shares // num_workers))

    return use


def _find_malloc_trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim. None with other C libraries (musl, macOS), which do not keep memory this
    way."""
    with suppress(OSError, AttributeError):
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return found
    return None


_malloc_trim = _find_malloc_trim()


def trim_after_batch(num_tokens: int) -> None:
    """Returns the free memory of all arenas after a batch of `num_tokens` computed tokens."""
    if _malloc_trim is not None and num_tokens >= MIN_TRIM_TOKENS:
        _malloc_trim(0)
