"""`read_hidden_states`: see chosen layers' activations during a forward, keeping none.

Hooks on the model's own modules, as a context manager: removed on every way out, and proven to have
fired. What a reader sees is what `output_hidden_states=True` would return at the same index (tested
at every index for every supported family), but nothing is stored unless the reader stores it. It
does not run the forward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from probes.head import decoder, decoder_blocks

Reader = Callable[[Tensor], None]


class CaptureError(RuntimeError):
    """A hook did not see every forward: the readings would be missing or stale."""


def num_hidden_layers(model: nn.Module) -> int:
    """Blocks in the trunk; valid layer indices are 0 to this number, inclusive."""
    return len(decoder_blocks(model))


@contextmanager
def read_hidden_states(model: nn.Module, readers: Mapping[int, Reader]) -> Iterator[None]:
    """Calls `readers[layer](hidden)`, [B, T, hidden] in the model's dtype, in every forward.

    `layer` indexes `hidden_states`: i < num_layers is the input of block i (so 0 has Gemma's
    embedding scale applied), num_layers is the output of the final norm. A reader must not change
    the tensor.

    Raises:
        ValueError: a layer out of range, or a model laid out in an unknown way.
        CaptureError: on a clean exit, when no forward ran or a hook did not fire once per forward.
    """
    trunk, blocks = decoder(model), decoder_blocks(model)
    for layer in readers:
        if not 0 <= layer <= len(blocks):
            raise ValueError(f"layer {layer} does not exist: this model has 0 to {len(blocks)}")
    fired: Counter[int | str] = Counter()
    with ExitStack() as hooks:  # a handle is a context manager that removes its hook
        hooks.enter_context(trunk.register_forward_hook(_count(fired)))
        for layer, reader in readers.items():
            if layer < len(blocks):
                before = _read_input(layer, reader, fired)
                handle = blocks[layer].register_forward_pre_hook(before, with_kwargs=True)
            else:
                norm = trunk.norm
                assert isinstance(norm, nn.Module)
                handle = norm.register_forward_hook(_read_output(layer, reader, fired))
            hooks.enter_context(handle)
        yield
    silent = [layer for layer in readers if fired[layer] != fired["forwards"]]
    if fired["forwards"] == 0 or silent:
        counts = {layer: fired[layer] for layer in readers}
        raise CaptureError(
            f"{fired['forwards']} forwards ran through {type(trunk).__name__}, but the hooks fired "
            f"{counts} times by layer: each must fire once per forward"
        )


def _count(fired: Counter[int | str]) -> Callable[..., None]:
    def after_forward(module: nn.Module, args: Any, output: Any) -> None:
        fired["forwards"] += 1

    return after_forward


def _read_input(layer: int, reader: Reader, fired: Counter[int | str]) -> Callable[..., None]:
    def before_block(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        # Hugging Face passes it by position; a wrapped block may get it by name.
        hidden = args[0] if args else kwargs["hidden_states"]
        reader(hidden)
        fired[layer] += 1

    return before_block


def _read_output(layer: int, reader: Reader, fired: Counter[int | str]) -> Callable[..., None]:
    def after_norm(module: nn.Module, args: Any, output: Any) -> None:
        reader(output)
        fired[layer] += 1

    return after_norm
