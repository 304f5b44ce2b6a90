"""The compiled attention kernel (`forward/cpp/`), where it was built and this CPU can run it.

This module finds the library, asks which dtypes it computes, and calls it. Without the library
`candor.forward.packed_attention` computes the same with torch, more slowly. The environment
variable `CANDOR_NATIVE=0` switches the kernel off.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

LIBRARY = Path(__file__).with_name("native_attention.so")
DTYPES = {torch.float32: 0, torch.bfloat16: 1}

FIRST_KEY, NUM_KEYS, DEPTH, FIRST_QUERY, NUM_QUERIES, FIRST_BEFORE, NUM_BEFORE = range(7)
"""Columns of the table of segments that `Kernel.attention` takes."""


class _Strides(Structure):
    _fields_ = [("token", c_int64), ("head", c_int64)]


class _Problem(Structure):
    """`Problem` of forward/cpp/kernel.h."""

    _fields_ = [
        ("dtype", c_int),
        *((name, c_void_p) for name in ("query", "key", "value", "out")),
        *((f"{name}_strides", _Strides) for name in ("query", "key", "value", "out")),
        ("positions", c_void_p),
        ("group", c_int32),
        ("head_dim", c_int32),
        ("window", c_int32),
        ("scale", c_float),
    ]


class Kernel:
    """One loaded library.

    Raises:
        OSError: the file is no library, or is built for another system.
        AttributeError: the library is another one, or of another version.
    """

    def __init__(self, library: Path) -> None:
        self.library = library
        loaded = ctypes.CDLL(str(library))
        self._attention = loaded.candor_attention
        self._attention.argtypes = [
            POINTER(_Problem), c_int, c_void_p, c_int64, c_void_p, c_int,
        ]  # fmt: skip
        loaded.candor_kernel.restype = c_char_p
        self._rms_norm = loaded.candor_rms_norm
        self._rms_norm.argtypes = [
            c_int, c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_float, c_int,
        ]  # fmt: skip
        self._rotate = loaded.candor_rotate
        self._rotate.argtypes = [
            c_int, c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int,
        ]  # fmt: skip
        self._silu_multiply = loaded.candor_silu_multiply
        self._silu_multiply.argtypes = [c_int, c_void_p, c_void_p, c_int64, c_int]
        for function in (self._rms_norm, self._rotate, self._silu_multiply):
            function.restype = None
        names = {dtype: loaded.candor_kernel(code) for dtype, code in DTYPES.items()}
        self.names = {dtype: name.decode() for dtype, name in names.items() if name is not None}
        """By dtype, the instruction set used on this CPU: avx2, avx512 or avx512bf16."""

    def can(self, query: Tensor) -> bool:
        """Whether the kernel computes attention for these queries."""
        return (
            query.dtype in self.names
            and query.device.type == "cpu"
            and query.shape[-1] % 2 == 0
            and not query.requires_grad
        )

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        segments: Tensor,
        before: Tensor,
        positions: Tensor,
        *,
        scaling: float,
        window: int | None,
        num_threads: int,
    ) -> Tensor:
        """Attention of each segment's queries over the segment itself and those that lead to it.

        Args:
            query: [1, heads, queries, head_dim], float32 or bfloat16; the heads that share a
                key/value head are neighbours.
            key, value: [1, key/value heads, tokens, head_dim].
            segments: [n, 7] int32, one row per segment: `FIRST_KEY`, `NUM_KEYS`, ... The range
                [FIRST_BEFORE, FIRST_BEFORE + NUM_BEFORE) of `before` holds the segments that lead
                to it, from the root.
            before: int32, numbers of segments.
            positions: [queries] int32: each query's place in its sequence, ascending in a segment.
            window: how many tokens a token attends to, itself included; None: all before it.

        Returns:
            [1, queries, heads, head_dim].

        Raises:
            MemoryError: there is no memory for the packed keys and values, or no thread.
        """
        query, key, value = (_contiguous_rows(states) for states in (query, key, value))
        _, heads, queries, head_dim = query.shape
        out = query.new_empty(1, queries, heads, head_dim)
        problem = _Problem(
            DTYPES[query.dtype],
            query.data_ptr(), key.data_ptr(), value.data_ptr(), out.data_ptr(),
            *(_Strides(states.stride(2), states.stride(1)) for states in (query, key, value)),
            _Strides(heads * head_dim, head_dim),
            positions.data_ptr(), heads // key.shape[1], head_dim, window or 0, scaling,
        )  # fmt: skip
        status = self._attention(
            problem, key.shape[1], segments.data_ptr(), len(segments), before.data_ptr(),
            num_threads,
        )  # fmt: skip
        if status != 0:
            raise MemoryError("the native attention kernel found no memory or thread to work with")
        return out

    def rms_norm(self, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        """[tokens, size] divided by sqrt(mean square + eps), times `weight` [size].

        Here and in the two methods below, all tensors are contiguous and of one dtype.
        """
        out = torch.empty_like(hidden)
        self._rms_norm(
            DTYPES[hidden.dtype], hidden.data_ptr(), weight.data_ptr(), out.data_ptr(),
            *hidden.shape, eps, torch.get_num_threads(),
        )  # fmt: skip
        return out

    def rotate(self, states: Tensor, cosines: Tensor, sines: Tensor) -> None:
        """Rotary embedding of [tokens, heads, head_dim], in place; cosines and sines are
        [tokens, head_dim]."""
        self._rotate(
            DTYPES[states.dtype], states.data_ptr(), cosines.data_ptr(), sines.data_ptr(),
            *states.shape, torch.get_num_threads(),
        )  # fmt: skip

    def silu_multiply(self, gate: Tensor, up: Tensor) -> None:
        """gate = silu(gate) * up, in place."""
        self._silu_multiply(
            DTYPES[gate.dtype], gate.data_ptr(), up.data_ptr(), gate.numel(),
            torch.get_num_threads(),
        )  # fmt: skip


def _contiguous_rows(states: Tensor) -> Tensor:
    return states if states.stride(3) == 1 else states.contiguous()


@cache
def kernel() -> Kernel | None:
    """The kernel built with this package; None where it is missing, cannot run on this CPU, or is
    switched off."""
    if os.environ.get("CANDOR_NATIVE") == "0" or not LIBRARY.exists():
        return None
    try:
        loaded = Kernel(LIBRARY)
    except (OSError, AttributeError):  # built on another system, or by an older version
        return None
    return loaded if loaded.names else None


def name(dtype: torch.dtype) -> str:
    """The code that computes packed attention in `dtype` on this CPU, for the log: native-avx2,
    sdpa, ..."""
    loaded = kernel()
    return (
        "sdpa" if loaded is None or dtype not in loaded.names else f"native-{loaded.names[dtype]}"
    )
