"""Layouts: every sequence can be read back, what is shared occurs once, and limits hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.forward.prefix import (
    MAX_LEVELS,
    MIN_SAVED,
    CachedTokens,
    Layout,
    count_distinct,
    lay_out,
    sort_key,
)

# Few symbols and few stems: random sequences that share prefixes of every length.
STEMS = st.lists(st.sampled_from([(0,) * 20, (1,) * 7, (0, 1) * 9, (2,)]), max_size=4)
SEQUENCES = st.lists(
    st.builds(
        lambda stems, tail: (*(token for stem in stems for token in stem), *tail),
        STEMS,
        st.lists(st.integers(0, 2), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=12,
)


def read_back(layout: Layout, sequence: int, length: int) -> list[int]:
    return [layout.token_ids[index] for index in layout.indices(sequence, 0, length)]


@given(SEQUENCES)
def test_every_sequence_can_be_read_back_with_its_positions(
    sequences: list[tuple[int, ...]],
) -> None:
    layout = lay_out(sequences)
    for number, sequence in enumerate(sequences):
        assert read_back(layout, number, len(sequence)) == list(sequence)
        where = [layout.positions[index] for index in layout.indices(number, 0, len(sequence))]
        assert where == list(range(len(sequence)))


@given(SEQUENCES)
def test_segments_tile_the_packed_sequence_and_follow_what_leads_to_them(
    sequences: list[tuple[int, ...]],
) -> None:
    layout = lay_out(sequences)
    ends = [0, *(segment.end for segment in layout.segments)]
    assert [segment.start for segment in layout.segments] == ends[:-1]
    assert ends[-1] == layout.num_tokens <= sum(map(len, sequences))
    for number, segment in enumerate(layout.segments):
        assert segment.end > segment.start
        assert all(before < number for before in segment.before)
        lengths = [layout.segments[i].end - layout.segments[i].start for i in segment.before]
        assert segment.depth == sum(lengths)


def test_a_context_of_many_responses_occurs_once() -> None:
    context = tuple(range(100))
    layout = lay_out([(*context, 200 + i, 300 + i) for i in range(16)])
    assert layout.num_tokens == 100 + 16 * 2
    assert [len(path) for path in layout.paths] == [2] * 16


def test_early_turns_are_shared_across_contexts() -> None:
    turn = tuple(range(50))
    first, second = (*turn, *range(100, 130)), (*turn, *range(200, 230))
    layout = lay_out([(*first, 1), (*first, 2), (*second, 1), (*second, 2)])
    assert layout.num_tokens == 50 + 30 + 30 + 4
    assert max(len(path) for path in layout.paths) == 3


def test_equal_sequences_are_computed_once() -> None:
    layout = lay_out([(5, 6, 7), (8,), (5, 6, 7)])
    assert layout.num_tokens == 4
    assert layout.paths[0] == layout.paths[2]


def test_a_sequence_that_is_anothers_prefix_has_no_token_of_its_own() -> None:
    whole = tuple(range(40))
    layout = lay_out([whole, whole[:30]])
    assert layout.num_tokens == 40
    assert list(layout.indices(1, 29, 30)) == [29]


@pytest.mark.parametrize(("shared", "segments"), [(MIN_SAVED - 1, 2), (MIN_SAVED, 3)])
def test_a_prefix_is_shared_only_where_it_saves_enough(shared: int, segments: int) -> None:
    stem = (9,) * shared
    assert len(lay_out([(*stem, 1), (*stem, 2)]).segments) == segments


def test_texts_that_branch_at_every_token_are_cut_a_bounded_number_of_times() -> None:
    sequences = [(7,) * length for length in range(1, 400)]
    layout = lay_out(sequences)
    assert max(len(path) for path in layout.paths) <= MAX_LEVELS
    assert read_back(layout, 398, 399) == [7] * 399


@pytest.mark.parametrize("sequences", [[], [(1,), ()]])
def test_nothing_and_an_empty_sequence_are_refused(sequences: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        lay_out(sequences)


IDS = st.lists(st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 255, 256, 65_536]), max_size=5)


@given(IDS, IDS)
def test_keys_sort_as_the_tokens_do(one: list[int], other: list[int]) -> None:
    assert (sort_key(one) < sort_key(other)) == (one < other)
    assert (sort_key(one) == sort_key(other)) == (one == other)


@given(SEQUENCES)
def test_keys_that_are_given_change_nothing(sequences: list[tuple[int, ...]]) -> None:
    assert lay_out(sequences, [sort_key(one) for one in sequences]) == lay_out(sequences)


def test_a_cached_prefix_is_in_front_and_not_computed() -> None:
    context, turn = tuple(range(100, 150)), tuple(range(200, 230))
    sequences = [(*context, 1, 2, 3), context + turn + (4, 5), context + turn + (6,), (9, 9, 9)]
    cached_tokens = [CachedTokens(*counts) for counts in ((50, 50), (0, 80), (80, 80), (0, 1))]
    layout = lay_out(sequences, cached_tokens=cached_tokens)
    assert layout.num_cached_tokens == 80
    assert layout.num_tokens == 3 + 2 + 1 + 3
    assert layout.token_ids[:80] == context + turn
    assert [sequences[number][:50] for number in layout.cached_from] == [context, context]
    for number, ids in enumerate(sequences):
        assert [layout.token_ids[at] for at in layout.indices(number, 0, len(ids))] == [*ids]
        assert [layout.positions[at] for at in layout.indices(number, 0, len(ids))] == [
            *range(len(ids))
        ]
    for segment in layout.segments:
        assert all(layout.segments[one].end <= segment.start for one in segment.before)


def test_a_cached_prefix_ends_where_a_sequence_is_read() -> None:
    context = tuple(range(100, 150))
    sequences = [(*context, 1), (*context, 2)]

    def cached(given: list[tuple[int, ...]], *counts: tuple[int, int]) -> Layout:
        return lay_out(given, cached_tokens=[CachedTokens(*pair) for pair in counts])

    assert cached(sequences, (50, 50), (0, 50)).num_cached_tokens == 50
    assert cached(sequences, (50, 50), (0, 20)).num_cached_tokens == 20
    assert cached([sequences[0]] * 2, (50, 50), (50, 7)).num_cached_tokens == 7
    assert cached(sequences, (0, 50), (0, 50)).cached_from == ()


def counted(sequences: list[tuple[int, ...]]) -> list[int]:
    return [*count_distinct(map(sort_key, sequences))]


def test_distinct_tokens_are_counted_as_sequences_come() -> None:
    context = tuple(range(40))
    sequences = [(*context, 1, 2), (*context, 3), (*context, 1, 2), (7,) * 10]
    assert counted(sequences) == [42, 43, 43, 53]
    # In any order the sum is the same.
    assert counted(sequences[::-1])[-1] == 53
    # A start shorter than MIN_SAVED is computed for each, as a layout of two does.
    assert counted([(*context[:5], 9), (*context[:5], 8)]) == [6, 12]


@given(SEQUENCES)
def test_the_count_is_a_layouts_but_for_short_starts(sequences: list[tuple[int, ...]]) -> None:
    *_, found = counted(sequences)
    assert abs(found - lay_out(sequences).num_tokens) <= MIN_SAVED * len(sequences)
