"""The texts of the bench: what the issue's workloads say, and fresh where they must be."""

from __future__ import annotations

import random

import pytest

from bench.load.workloads import GROUP_SIZE, WORDS, draw


def wrap(words: str) -> str:
    return f"<{words}>"


def test_unique_texts_share_no_context_and_have_16_to_200_words() -> None:
    texts = draw("unique", (0,), 64, wrap)
    assert len({text.context for text in texts}) == len(texts) == 64
    for text in texts:
        assert 16 <= len(text.context.split()) <= 200
        assert 16 <= len(text.response.split()) <= 200


def test_groups_are_16_different_responses_to_one_context_one_after_the_other() -> None:
    texts = draw("groups", (0,), 48, wrap)
    assert [text.group for text in texts] == [n for n in range(3) for _ in range(GROUP_SIZE)]
    assert len({text.context for text in texts}) == 3
    assert len({text.response for text in texts}) == 48
    assert all(150 <= len(text.context.split()) <= 250 for text in texts)
    assert all(20 <= len(text.response.split()) <= 100 for text in texts)


@pytest.mark.parametrize("workload", ["groups", "unique", "open"])
def test_one_seed_gives_one_set_of_texts_and_another_seed_shares_none(workload: str) -> None:
    first = draw(workload, (0, "single", 1), 32, wrap)
    assert first == draw(workload, (0, "single", 1), 32, wrap)
    for other in ((0, "single", 2), (0, "batch", 1), (1, "single", 1)):
        texts = draw(workload, other, 32, wrap)
        assert {text.context for text in first}.isdisjoint(text.context for text in texts)


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    assert draw("open", (0,), 20, wrap)[:8] == draw("open", (0,), 8, wrap)


def test_the_words_are_distinct() -> None:
    assert len(WORDS) == len(set(WORDS)) > 300
    assert random.Random(0).choice(WORDS).isalpha()
