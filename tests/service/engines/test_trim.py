"""Memory that a large batch has freed is returned, although a live block lies above it."""

from __future__ import annotations

import psutil
import pytest

from candor.engines import trim

BLOCK, COUNT = 100 * 2**10, 2000
"""Each block is too small for glibc to map separately. All blocks together have 200 MB."""


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.skipif(trim._malloc_trim is None, reason="another C library than glibc")
def test_freed_memory_under_a_block_that_lives_goes_back_after_a_large_batch() -> None:
    freed = [bytearray(BLOCK) for _ in range(COUNT)]
    for block in freed:
        block[::4096] = b"x" * len(block[::4096])
    kept = bytearray(BLOCK)
    del freed, block
    hoarded = resident()
    trim.after_batch(trim.MIN_TOKENS - 1)
    assert resident() > hoarded - BLOCK * COUNT // 10  # the control: a small batch changes nothing
    trim.after_batch(trim.MIN_TOKENS)
    assert resident() < hoarded - BLOCK * COUNT // 2
    assert len(kept) == BLOCK
