"""Reads chosen layers' activations during a forward, and stores none.

The hooks sit on the model's own modules, and every read proves that they fired. A reader sees what
`output_hidden_states=True` would return at the same index (tested at every index for every
supported family); a projection at that index (`candor.forward.projection`) comes after the reader.
`read_hidden_states` puts hooks on for one `with` block. `HiddenStateHooks` puts them on once, for
threads that run the same model side by side. The caller runs the forward.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from candor.forward.head import decoder, decoder_blocks, final_norm

Reader = Callable[[Tensor], None]


class CaptureError(RuntimeError):
    """A hook did not see every forward: the readings would be missing or stale."""


def num_hidden_layers(model: nn.Module) -> int:
    """Blocks in the trunk; valid layer indices are 0 to this number, inclusive."""
    return len(decoder_blocks(model))


class _ThreadReaders(threading.local):
    """The readers of this thread's forwards; None outside `HiddenStateHooks.read`."""

    readers: Mapping[int, Reader] | None = None
    fired: Counter[int | str]


class HiddenStateHooks:
    """Hooks at chosen layers of one model. They call the readers of the thread that runs the
    forward, and do nothing in a thread that is not inside `read`.

    Args:
        layers: indices into `hidden_states`: i < num_layers is the input of block i (so 0 has
            Gemma's embedding scale applied), num_layers is the output of the final norm.

    Raises:
        ValueError: a layer is out of range, or the model is laid out in an unknown way.
    """

    def __init__(self, model: nn.Module, layers: Iterable[int]) -> None:
        trunk, blocks = decoder(model), decoder_blocks(model)
        wanted = sorted(set(layers))
        for layer in wanted:
            if not 0 <= layer <= len(blocks):
                raise ValueError(f"layer {layer} does not exist: this model has 0 to {len(blocks)}")
        self._thread = _ThreadReaders()
        self._trunk = type(trunk).__name__
        self._handles = [trunk.register_forward_hook(_count_forwards(self._thread))]
        for layer in wanted:
            if layer < len(blocks):
                before = _read_input(layer, self._thread)
                handle = blocks[layer].register_forward_pre_hook(
                    before, with_kwargs=True, prepend=True
                )
            else:
                after = _read_output(layer, self._thread)
                handle = final_norm(model).register_forward_hook(after, prepend=True)
            self._handles.append(handle)

    @contextmanager
    def read(self, readers: Mapping[int, Reader]) -> Iterator[None]:
        """Calls `readers[layer](hidden)`, [B, T, hidden] in the model's dtype, in every forward of
        this thread. A reader must not change the tensor.

        Raises:
            CaptureError: on a clean exit, if no forward ran, or if a reader was not called exactly
                once per forward (also because its layer has no hook).
        """
        thread = self._thread
        thread.readers, thread.fired = readers, Counter()
        try:
            yield
            fired = thread.fired
        finally:
            thread.readers, thread.fired = None, Counter()
        silent = [layer for layer in readers if fired[layer] != fired["forwards"]]
        if fired["forwards"] == 0 or silent:
            counts = {layer: fired[layer] for layer in readers}
            raise CaptureError(
                f"{fired['forwards']} forwards ran through {self._trunk}, but the hooks fired "
                f"{counts} times by layer: each must fire once per forward"
            )

    def remove(self) -> None:
        """Takes the hooks off the model."""
        for handle in self._handles:
            handle.remove()


@contextmanager
def read_hidden_states(model: nn.Module, readers: Mapping[int, Reader]) -> Iterator[None]:
    """As `HiddenStateHooks.read`, with hooks that are taken off on every way out.

    Raises:
        ValueError, CaptureError: as `HiddenStateHooks`.
    """
    hooks = HiddenStateHooks(model, readers)
    try:
        with hooks.read(readers):
            yield
    finally:
        hooks.remove()


def _count_forwards(thread: _ThreadReaders) -> Callable[..., None]:
    def after_forward(module: nn.Module, args: Any, output: Any) -> None:
        if thread.readers is not None:
            thread.fired["forwards"] += 1

    return after_forward


def _read_input(layer: int, thread: _ThreadReaders) -> Callable[..., None]:
    def before_block(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        # transformers passes hidden states by position; a wrapped block may get them by name.
        _call_reader(layer, thread, args[0] if args else kwargs["hidden_states"])

    return before_block


def _read_output(layer: int, thread: _ThreadReaders) -> Callable[..., None]:
    def after_norm(module: nn.Module, args: Any, output: Any) -> None:
        _call_reader(layer, thread, output)

    return after_norm


def _call_reader(layer: int, thread: _ThreadReaders, hidden: Tensor) -> None:
    if thread.readers is not None and layer in thread.readers:
        thread.readers[layer](hidden)
        thread.fired[layer] += 1
