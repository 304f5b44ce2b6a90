"""The dtype that a CPU should compute in: a 16-bit dtype only where the CPU is fast in it.

A CPU without bfloat16 instructions (AVX2 only) converts at every step: its bfloat16 matrix products
run at a fifth to an eighth of the float32 rate. Not for GPUs.
"""

from __future__ import annotations

import torch


def cpu_dtype(wanted: torch.dtype) -> torch.dtype:
    """`wanted`, or float32 where this torch build has no kernels for `wanted` on this CPU.

    float32 holds every bfloat16 and float16 number, so weights lose nothing; activations are
    rounded less, and scores move within the rounding of the 16-bit dtype.
    """
    return wanted if wanted not in _SUPPORTED or _SUPPORTED[wanted]() else torch.float32


def _has_bfloat16() -> bool:
    # torch itself makes this check before it gives a bfloat16 matrix product to oneDNN.
    return _has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _has_float16() -> bool:
    return _has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


_SUPPORTED = {torch.bfloat16: _has_bfloat16, torch.float16: _has_float16}
