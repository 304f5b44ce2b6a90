"""Public sets by name: where their files come from, and drawing rows from them."""

from __future__ import annotations

from collections import Counter

import pytest

from candor.probes.fitting.data import Row
from candor.probes.kinds.public.table import SOURCES, draw_contexts


def test_the_hub_switched_off_is_one_line() -> None:
    with pytest.raises(ConnectionError, match="hub: Anthropic/model-written-evals: ") as caught:
        SOURCES["nlp-survey"].files("hub")  # HF_HUB_OFFLINE is set for all tests
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="'caa' is not on the hub"):
        SOURCES["caa"].files("hub")


def test_a_draw_keeps_the_rows_of_a_prompt_together() -> None:
    rows = [
        Row(group=f"g{n}", label=label, response=f"{label}", prompt=f"p{n}")
        for n in range(30)
        for label in (0, 1)
    ]
    drawn = draw_contexts(rows, 21, seed=0)
    assert len(drawn) == 20
    assert Counter(row.label for row in drawn) == {0: 10, 1: 10}
    assert drawn == [row for row in rows if row in drawn]
    assert drawn == draw_contexts(rows, 21, seed=0) != draw_contexts(rows, 21, seed=1)
    assert draw_contexts(rows, 100, seed=0) == rows
