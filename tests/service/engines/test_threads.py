"""Which models several threads may run, how many torch threads each gets, and the memory that a
batch has freed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch

from candor.engines import threads
from candor.engines.threads import MAX_DEFAULT_WORKERS, choose_num_workers, threads_for
from tests.service.engines.material import FAMILIES
from tests.tiny import tiny_llama


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_one_worker_a_core_up_to_a_limit_and_one_on_a_gpu() -> None:
    assert choose_num_workers(None, tiny_llama(), on_cpu=True) == 4
    assert choose_num_workers(None, tiny_llama(), on_cpu=False) == 1
    assert choose_num_workers(2, tiny_llama(), on_cpu=False) == 2
    torch.set_num_threads(64)
    assert choose_num_workers(None, tiny_llama(), on_cpu=True) == MAX_DEFAULT_WORKERS
    assert choose_num_workers(12, tiny_llama(), on_cpu=True) == 12


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_may_be_shared(family: object) -> None:
    assert callable(family)
    assert choose_num_workers(3, family(), on_cpu=True) == 3


def test_a_model_that_its_own_forward_changes_is_run_by_one() -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    model = tiny_llama(rope_parameters=rope, max_position_embeddings=16)
    assert choose_num_workers(3, model, on_cpu=True) == 1
    before = model.model.rotary_emb.inv_freq.clone()
    with torch.inference_mode():  # control: a forward changes this model
        model.model(input_ids=torch.arange(40)[None])
    assert not torch.equal(before, model.model.rotary_emb.inv_freq)


def test_a_batch_has_its_share_of_the_threads_and_the_others_keep_theirs() -> None:
    use = threads_for(2)

    def threads_after(share: int) -> int:
        use(share)
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        assert one.submit(threads_after, 2).result() == 4
        assert other.submit(threads_after, 1).result() == 2
        assert one.submit(torch.get_num_threads).result() == 4


BLOCK, COUNT = 100 * 2**10, 2000
"""Each block is too small for glibc to map separately. All blocks together have 200 MB."""


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.skipif(threads._malloc_trim is None, reason="another C library than glibc")
def test_freed_memory_under_a_block_that_lives_goes_back_after_a_large_batch() -> None:
    freed = [bytearray(BLOCK) for _ in range(COUNT)]
    for block in freed:
        block[::4096] = b"x" * len(block[::4096])
    kept = bytearray(BLOCK)
    del freed, block
    hoarded = resident()
    threads.trim_after_batch(threads.MIN_TRIM_TOKENS - 1)
    assert resident() > hoarded - BLOCK * COUNT // 10  # the control: a small batch changes nothing
    threads.trim_after_batch(threads.MIN_TRIM_TOKENS)
    assert resident() < hoarded - BLOCK * COUNT // 2
    assert len(kept) == BLOCK
