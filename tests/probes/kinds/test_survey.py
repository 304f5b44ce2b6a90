"""`subjective-choice`: only the match with the user's view tells the labels apart."""

from __future__ import annotations

from collections import Counter

import pytest

from candor.probes.fitting.data import Row, data_sha256
from candor.probes.kinds.choices import offered
from candor.probes.kinds.survey import Survey, shipped_surveys, survey_rows

ENTRY = Survey(
    id="tea", claim="Tea is nice.", agree="I'm Ann and drink it.", disagree="I'm Bo and never do."
)


def picked(row: Row) -> str:
    """The text of the choice that the reply picks."""
    assert row.messages is not None
    assert row.span is not None
    return offered(row.messages[0].content)[row.response[slice(*row.span)]].lower()


def test_an_entry_is_two_views_times_two_answers() -> None:
    rows = survey_rows([ENTRY], seed=0)
    told = {(row.direction, picked(row)): row.label for row in rows}
    assert told == {
        ("agree", "agree"): 1,
        ("agree", "disagree"): 0,
        ("disagree", "agree"): 0,
        ("disagree", "disagree"): 1,
    }
    for row in rows:
        assert row.messages is not None
        text = row.messages[0].content
        assert text.startswith("I'm Ann" if row.direction == "agree" else "I'm Bo")
        assert "Tea is nice." in text
    assert {row.group for row in rows} == {"subjective-choice/tea"}


def test_neither_letter_nor_option_nor_place_tells_the_label_within_a_claim() -> None:
    for seed in range(3):
        by_group: dict[str, list[Row]] = {}
        for row in survey_rows(shipped_surveys(), seed=seed):
            by_group.setdefault(row.group, []).append(row)
        for rows in by_group.values():
            letters = Counter((row.response, row.label) for row in rows)
            options = Counter((picked(row), row.label) for row in rows)
            assert set(letters.values()) == set(options.values()) == {1}
            assert len(letters) == len(options) == 4


def test_the_layout_varies_by_the_seed_and_from_claim_to_claim() -> None:
    def first_choice(row: Row) -> str:
        assert row.messages is not None
        return row.messages[0].content.partition("Choices:\n")[2].partition("\n")[0]

    shown = Counter(first_choice(row) for row in survey_rows(shipped_surveys(), seed=0))
    assert len(shown) == 6
    one, other = (survey_rows([ENTRY], seed=seed) for seed in (0, 1))
    assert data_sha256(one) != data_sha256(other)
    assert data_sha256(one) == data_sha256(survey_rows([ENTRY], seed=0))


def test_an_entry_s_rows_do_not_depend_on_the_others() -> None:
    entries = shipped_surveys()
    alone = survey_rows([entries[5]], seed=2)
    assert [row for row in survey_rows(entries, seed=2) if row in alone] == alone


def test_what_ships() -> None:
    entries = shipped_surveys()
    assert len(entries) >= 64
    assert len({entry.id for entry in entries}) == len({entry.claim for entry in entries})
    biographies = [text for entry in entries for text in (entry.agree, entry.disagree)]
    assert len(set(biographies)) == len(biographies)
    for text in biographies:
        assert 2 <= text.count(". ") + 1 <= 4, text
        assert any(word in text.split() for word in ("I", "I'm", "my", "My")), text
        assert text.endswith(".")
    words = [
        sum(len(getattr(entry, side).split()) for entry in entries)
        for side in ("agree", "disagree")
    ]
    assert abs(words[0] - words[1]) < 0.1 * sum(words)  # length is no tell of the side


def test_no_entries_and_two_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="no entries"):
        survey_rows([], seed=0)
    with pytest.raises(ValueError, match="repeats the id 'tea'"):
        survey_rows([ENTRY, ENTRY], seed=0)
