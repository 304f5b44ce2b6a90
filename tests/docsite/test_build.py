"""`make docs`: every page is in the site, nothing is fetched from elsewhere, and a broken link ends
the build."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docsite.build import build, configuration, run_zensical
from docsite.faults import Page, faults, is_elsewhere
from docsite.llms import paths_in
from docsite.pages import gather, place_of
from tests.paths import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    out = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "docsite.build", "--out", str(out)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "warning" not in (ended.stdout + ended.stderr).lower()
    return out


def test_every_page_of_docs_is_in_the_site_and_in_its_navigation(site: Path) -> None:
    home = Page((site / "index.html").read_text(encoding="utf-8"))
    for page in sorted((ROOT / "docs").rglob("*.md")):
        place = place_of(page).removesuffix(".md") + ".html"
        assert (site / place).is_file(), place
        written = "index.html" if place == "index.html" else f"./{place}"
        assert written in home.links, f"{place}: name it under `nav` in zensical.toml"


def test_nothing_is_fetched_from_elsewhere_and_no_link_leads_nowhere(site: Path) -> None:
    assert faults(site) == []
    pages = [Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))]
    assert not [url for page in pages for url in page.fetched if is_elsewhere(url)]
    assert all(len(page.fetched) > 2 for page in pages)  # its style sheets and its script
    text = (site / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"fonts\.g(oogleapis|static)|googletagmanager", text)


def test_llms_txt_lists_the_navigation_and_its_links_are_markdown(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    lines = re.findall(r"^- \[([^\]]+)\]\(([^)]+)\): (.+)$", text, re.MULTILINE)
    gathered = configuration(ROOT / "docs")
    assert [target for _, target, _ in lines] == list(paths_in(gathered["nav"]))
    assert text.startswith("# Candor\n\n> ")
    for title, target, summary in lines:
        page = (site / target).read_text(encoding="utf-8")
        assert title in page.replace("`", "")
        assert len(summary) > 20, target
        assert not summary.startswith("Words:")


@pytest.mark.parametrize(
    "link", ["gone.md", "other.md#no-such-heading"], ids=["no such page", "no such anchor"]
)
def test_a_broken_link_ends_the_build(tmp_path: Path, link: str) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "other.md").write_text("# Other\n\n## A heading\n")
    for target, sound in (("other.md#a-heading", True), (link, False)):
        (pages / "index.md").write_text(f"# Home\n\nSee [that]({target}).\n")
        project = {"site_name": "x", "docs_dir": "pages", "site_dir": "site", "nav": ["index.md"]}
        assert run_zensical(tmp_path, project) is sound


def test_a_page_without_a_place_in_the_navigation_would_be_seen(site: Path) -> None:
    home = Page((site / "index.html").read_text(encoding="utf-8"))
    assert "./quickstart.html" in home.links  # as the navigation writes it; the text has no ./
    assert "./no-such-page.html" not in home.links


def test_a_folder_that_holds_no_site_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert build(out=tmp_path) == 2
    assert "holds something that is no site" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_in_the_navigation_stands_for_its_pages(tmp_path: Path) -> None:
    gather(tmp_path / "pages")
    folder = tmp_path / "pages" / "trainers"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.md"):
        path.unlink()
    for name in ("verl", "index", "trl"):
        (folder / f"{name}.md").write_text(f"# {name.title()} page\n\nText.\n")
    nav = configuration(tmp_path / "pages")["nav"]
    found = [one for section in nav for there in section.values() for one in there]
    expected = {"Index page": ["trainers/index.md", "trainers/trl.md", "trainers/verl.md"]}
    assert expected in found
