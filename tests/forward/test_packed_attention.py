"""Every path of packed attention against one plain float64 attention per sequence.

The AVX-512 kernels run here as plain C++ compiled from the same lines (`tests/forward/kernels.py`),
so what is not tested on a machine without AVX-512 is the instructions, not the arithmetic.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from candor.forward.native import NUM_QUERIES
from candor.forward.packed_attention import PackedLayout, UnsupportedAttention, packed_attention
from candor.forward.prefix import Layout, Segment, lay_out
from tests.forward.kernels import PATHS, computed_by
from tests.forward.layouts import CPU, HEADS, sequences, states


def attend(
    layout: Layout, given: tuple[Tensor, Tensor, Tensor], window: int | None = None
) -> Tensor:
    """[T, heads, head_dim]."""
    scaling = given[0].shape[-1] ** -0.5
    out, _ = packed_attention(
        nn.Identity(),
        *given,
        None,
        scaling=scaling,
        packed_layout=PackedLayout(layout, CPU),
        sliding_window=window,
    )
    return out[0]


def exact(
    layout: Layout,
    ids: Sequence[tuple[int, ...]],
    given: tuple[Tensor, Tensor, Tensor],
    window: int | None,
) -> Tensor:
    """The same in float64, one sequence after the other, every token against all before it."""
    query, key, value = (one[0].double() for one in given)
    key, value = (one.repeat_interleave(len(query) // len(key), 0) for one in (key, value))
    out = torch.empty(layout.num_tokens, len(query), query.shape[-1], dtype=torch.float64)
    for number, sequence in enumerate(ids):
        at = torch.tensor(list(layout.indices(number, 0, len(sequence))))
        scores = query[:, at] @ key[:, at].transpose(1, 2) * query.shape[-1] ** -0.5
        place = torch.arange(len(at))
        back = place[:, None] - place
        seen = (back >= 0) & (back < (window or len(at)))
        out[at] = (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value[:, at]).transpose(0, 1)
    return out


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("head_dim", [8, 16, 32, 64, 80, 96, 128, 256])
def test_every_head_size_and_grouping_is_exact(path: str, head_dim: int) -> None:
    """And windows: of one token, shorter and longer than a segment."""
    with computed_by(path):
        for seed, (heads, window) in enumerate(zip(HEADS, (None, 1, 5, 33, None), strict=True)):
            ids = sequences(seed)
            layout = lay_out(ids)
            for dtype, tolerance in ((torch.float32, 4e-6), (torch.bfloat16, 0.02)):
                given = states(layout, heads, head_dim, dtype)
                gap = attend(layout, given, window).double() - exact(layout, ids, given, window)
                assert gap.abs().max() < tolerance, (heads, window, dtype)


@pytest.mark.parametrize("path", ["native", "emulated"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_are_no_less_exact_than_torch(path: str, dtype: torch.dtype) -> None:
    """Mean error over contexts of some hundred tokens, where sums are long; a tenth for chance."""
    draw = random.Random(1)
    context = tuple(draw.randrange(1000) for _ in range(300))
    ids = [context + tuple(draw.randrange(1000) for _ in range(60)) for _ in range(3)]
    layout = lay_out(ids)
    given = states(layout, (6, 2), 64, dtype)
    expected = exact(layout, ids, given, None)

    def error(by: str) -> float:
        with computed_by(by):
            return float((attend(layout, given).double() - expected).abs().mean())

    assert 0 < error(path) <= 1.1 * error("torch")


@pytest.mark.parametrize("path", ["native", "emulated"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_segment_is_equal_to_the_bit_whatever_else_is_in_the_batch(
    path: str, dtype: torch.dtype
) -> None:
    with computed_by(path):
        for seed in range(4):
            ids = sequences(seed)
            layout = lay_out(ids)
            given = states(layout, (6, 2), 64, dtype)
            whole = attend(layout, given)
            for way in set(layout.paths):  # the same segments, alone
                cuts, at, chosen = [], 0, []
                for number in way:
                    one = layout.segments[number]
                    length = one.end - one.start
                    cuts.append(Segment(at, at + length, one.depth, tuple(range(len(cuts)))))
                    chosen += range(one.start, one.end)
                    at += length
                alone = Layout((0,) * at, tuple(range(at)), tuple(cuts), ())
                part = tuple(states[:, :, chosen] for states in given)
                assert torch.equal(attend(alone, part), whole[chosen])  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["native", "emulated"])
def test_in_float32_a_token_does_not_even_depend_on_where_its_sequence_was_cut(path: str) -> None:
    with computed_by(path):
        ids = sequences(2)
        layout = lay_out(ids)
        given = states(layout, (6, 2), 64, torch.float32)
        whole = attend(layout, given)
        assert max(len(way) for way in layout.paths) == 3
        for number, sequence in enumerate(ids):
            at = list(layout.indices(number, 0, len(sequence)))
            query, key, value = (states[:, :, at] for states in given)
            assert torch.equal(attend(lay_out([sequence]), (query, key, value)), whole[at])


@pytest.mark.parametrize("path", PATHS)
def test_a_token_that_is_not_a_number_spoils_its_own_sequences_and_no_other(path: str) -> None:
    """NaN must come out as NaN: a score of a broken forward is an error, never a number."""
    ids = sequences(0)
    layout = lay_out(ids)
    broken = list(layout.indices(0, 3, 4))
    sound = list(layout.indices(5, 0, len(ids[5])))
    for dtype in (torch.float32, torch.bfloat16):
        for which in range(3):
            given = states(layout, (4, 2), 32, dtype)
            given[which][:, :, broken] = torch.nan
            with computed_by(path):
                found = attend(layout, given)
            last = next(layout.indices(0, 3 if which == 0 else len(ids[0]) - 1, len(ids[0])))
            assert bool(found[last].isnan().all())
            assert bool(found[sound].isfinite().all())


def test_large_scores_do_not_overflow() -> None:
    layout = lay_out(sequences(0))
    query, key, value = states(layout, (4, 2), 32, torch.float32)
    given = (query * 1e4, key * 1e4, value)
    with computed_by("torch"):
        expected = attend(layout, given)
    for path in ("native", "emulated"):
        with computed_by(path):
            assert torch.allclose(attend(layout, given), expected, atol=1e-5)


def test_threads_change_nothing() -> None:
    layout = lay_out(sequences(3))
    given = states(layout, (6, 2), 64, torch.float32)
    with computed_by("native"):
        one = attend(layout, given)
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            assert torch.equal(attend(layout, given), one)
        finally:
            torch.set_num_threads(before)


@pytest.mark.parametrize("path", PATHS)
def test_only_some_tokens_may_ask(path: str) -> None:
    """As the last block does: keys of every token, queries of those that are read."""
    layout = lay_out(sequences(1))
    query, key, value = states(layout, (6, 2), 32, torch.float32)
    read = torch.arange(2, layout.num_tokens, 17)
    packed = PackedLayout(layout, CPU)
    packed.set_read_tokens(read)
    assert packed.read_queries is not None
    assert 0 in packed.read_queries.table[:, NUM_QUERIES].tolist()  # a segment without queries
    for window in (None, 20):
        with computed_by(path):
            found, _ = packed_attention(
                nn.Identity(), query[:, :, read], key, value, None,
                scaling=32**-0.5, packed_layout=packed, sliding_window=window,
                queries=packed.read_queries,
            )  # fmt: skip
            whole = attend(layout, (query, key, value), window)[read]
        assert torch.allclose(found[0], whole, atol=1e-5 if path == "torch" else 0, rtol=0)


@pytest.mark.parametrize("path", PATHS)
def test_what_the_kernels_do_not_compute_goes_to_torch(path: str) -> None:
    """float16, float64, soft-capped scores and gradients: the same numbers on every path."""
    ids = sequences(0)
    layout = lay_out(ids)
    with computed_by(path):
        for dtype, tolerance in ((torch.float16, 4e-3), (torch.float64, 1e-12)):
            given = states(layout, (4, 2), 16, dtype)
            gap = attend(layout, given).double() - exact(layout, ids, given, None)
            assert gap.abs().max() < tolerance
        query, key, value = states(layout, (4, 2), 16, torch.float32)
        attend(layout, (query.requires_grad_(), key, value)).sum().backward()  # type: ignore[no-untyped-call]
        assert query.grad is not None
        capped, _ = packed_attention(
            nn.Identity(), query.detach(), key, value, None,
            scaling=1.0, softcap=2.0, packed_layout=PackedLayout(layout, CPU),
        )  # fmt: skip
        assert not torch.allclose(capped[0], attend(layout, (query.detach() * 4, key, value)))


def test_a_call_without_a_layout_or_with_sinks_is_refused() -> None:
    layout = lay_out(sequences(0))
    given = states(layout, (4, 2), 16, torch.float32)
    with pytest.raises(UnsupportedAttention, match="without a layout"):
        packed_attention(nn.Identity(), *given, None, scaling=1.0)
    with pytest.raises(UnsupportedAttention, match="sinks"):
        packed_attention(
            nn.Identity(), *given, None,
            scaling=1.0, packed_layout=PackedLayout(layout, CPU), s_aux=torch.zeros(4),
        )  # fmt: skip
