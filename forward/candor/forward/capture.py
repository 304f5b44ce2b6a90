"""See chosen layers' activations during a forward, keeping none.

Hooks on the model's own modules, proven to have fired. What a reader sees is what
`output_hidden_states=True` would return at the same index (tested at every index for every
supported family), but nothing is stored unless the reader stores it. `read_hidden_states` hooks for
one `with`; `Taps` hooks once, for threads that run the same model side by side. It does not run the
forward.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from candor.forward.head import decoder, decoder_blocks

Reader = Callable[[Tensor], None]


class CaptureError(RuntimeError):
    """A hook did not see every forward: the readings would be missing or stale."""


def num_hidden_layers(model: nn.Module) -> int:
    """Blocks in the trunk; valid layer indices are 0 to this number, inclusive."""
    return len(decoder_blocks(model))


class _Here(threading.local):
    """Who reads the forwards of this thread: nobody, unless it is inside `Taps.read`."""

    readers: Mapping[int, Reader] | None = None
    fired: Counter[int | str]


class Taps:
    """Hooks at chosen layers of one model. They call the readers of the thread that runs the
    forward, and do nothing in a thread that is not inside `read`.

    Args:
        layers: indices into `hidden_states`: i < num_layers is the input of block i (so 0 has
            Gemma's embedding scale applied), num_layers is the output of the final norm.

    Raises:
        ValueError: a layer out of range, or a model laid out in an unknown way.
    """

    def __init__(self, model: nn.Module, layers: Iterable[int]) -> None:
        trunk, blocks = decoder(model), decoder_blocks(model)
        wanted = sorted(set(layers))
        for layer in wanted:
            if not 0 <= layer <= len(blocks):
                raise ValueError(f"layer {layer} does not exist: this model has 0 to {len(blocks)}")
        self._here = _Here()
        self._trunk = type(trunk).__name__
        self._handles = [trunk.register_forward_hook(_count(self._here))]
        for layer in wanted:
            if layer < len(blocks):
                before = _read_input(layer, self._here)
                handle = blocks[layer].register_forward_pre_hook(before, with_kwargs=True)
            else:
                norm = trunk.norm
                assert isinstance(norm, nn.Module)
                handle = norm.register_forward_hook(_read_output(layer, self._here))
            self._handles.append(handle)

    @contextmanager
    def read(self, readers: Mapping[int, Reader]) -> Iterator[None]:
        """Calls `readers[layer](hidden)`, [B, T, hidden] in the model's dtype, in every forward of
        this thread. A reader must not change the tensor.

        Raises:
            CaptureError: on a clean exit, when no forward ran or a hook did not fire once per
                forward, as that of a layer without a hook.
        """
        here = self._here
        here.readers, here.fired = readers, Counter()
        try:
            yield
            fired = here.fired
        finally:
            here.readers, here.fired = None, Counter()
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
    """`Taps.read` with hooks that are gone on every way out.

    Raises:
        ValueError, CaptureError: as `Taps`.
    """
    taps = Taps(model, readers)
    try:
        with taps.read(readers):
            yield
    finally:
        taps.remove()


def _count(here: _Here) -> Callable[..., None]:
    def after_forward(module: nn.Module, args: Any, output: Any) -> None:
        if here.readers is not None:
            here.fired["forwards"] += 1

    return after_forward


def _read_input(layer: int, here: _Here) -> Callable[..., None]:
    def before_block(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        # Hugging Face passes it by position; a wrapped block may get it by name.
        _call(layer, here, args[0] if args else kwargs["hidden_states"])

    return before_block


def _read_output(layer: int, here: _Here) -> Callable[..., None]:
    def after_norm(module: nn.Module, args: Any, output: Any) -> None:
        _call(layer, here, output)

    return after_norm


def _call(layer: int, here: _Here, hidden: Tensor) -> None:
    if here.readers is not None and layer in here.readers:
        here.readers[layer](hidden)
        here.fired[layer] += 1
