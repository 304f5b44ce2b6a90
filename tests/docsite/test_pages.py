"""Links of the repository become links of the site."""

from __future__ import annotations

from pathlib import Path

import pytest

from docsite.pages import ROOT, is_page, place_of, relinked, source_page, title_and_summary


def test_a_link_leads_to_the_place_in_the_site() -> None:
    linked: list[Path] = []
    text = relinked(ROOT / "examples" / "replicate_paper.md", linked)
    assert "(../design.md#words)" in text
    assert ROOT / "docs" / "design.md" in linked
    assert place_of(ROOT / "README.md") == "overview.md"
    assert place_of(ROOT / "docs" / "api.md") == "api.md"
    assert place_of(ROOT / "docker" / "alerts.yml") == "source/docker/alerts.yml.md"
    assert place_of(ROOT / ".env.example") == "source/dot-env.example.md"


def test_code_is_left_as_it_is(tmp_path: Path) -> None:
    page = ROOT / "docs" / "stack.md"
    text = relinked(page, [])
    fences = [part for part in page.read_text("utf-8").split("```")[1::2]]
    assert fences == text.split("```")[1::2]


def test_a_link_to_a_file_that_is_gone_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docsite.pages.ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "a.md"
    page.write_text("# A\n\n[b](../gone.yml) and [c](https://x.org/d)\n")
    with pytest.raises(FileNotFoundError, match=r"docs/a\.md: links to \.\./gone\.yml"):
        relinked(page, [])
    (tmp_path / "gone.yml").write_text("x: 1\n")
    assert "[b](source/gone.yml.md) and [c](https://x.org/d)" in relinked(page, [])


def test_a_file_that_is_no_page_is_shown_whole() -> None:
    path = ROOT / "docker" / "alerts.yml"
    assert is_page(path)
    assert path.read_text("utf-8").strip() in source_page(path)
    folder = source_page(ROOT / "examples" / "trl")
    for file in (ROOT / "examples" / "trl").iterdir():
        assert not file.is_file() or f"## {file.name}\n" in folder


def test_the_summary_is_the_first_sentence_that_is_no_list_of_words() -> None:
    text = (
        "# The `title`\n\nWords: a *b* is c. More.\n\n```sh\nrun\n```\n\nIt [is](x.md) a. And b.\n"
    )
    assert title_and_summary(text) == ("The title", "It is a.")
    assert title_and_summary("no heading") == ("", "")
