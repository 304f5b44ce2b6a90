"""What must not be in a built site: a fetch from elsewhere, and a link that leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

NOT_FOUND = "404.html"
"""Its addresses begin at the root of a server, so they are not checked."""


class Page(HTMLParser):
    """Attributes:
    links: where a reader can go.
    fetched: what a browser loads by itself.
    places: the anchors of the page.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.classes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.places |= {named[name] for name in ("id", "name") if name in named}
        self.classes |= set(named.get("class", "").split())
        if tag == "a":
            self.links += [named["href"]] if "href" in named else []
        elif named.get("rel") not in ("canonical", "prev", "next"):
            self.fetched += [named[name] for name in ("src", "href", "data") if name in named]


def faults(site: Path) -> list[str]:
    """Every fault of a site, a line each; none if it is sound."""
    found = [fault for page in sorted(site.rglob("*.html")) for fault in _of_page(page, site)]
    return found + [fault for sheet in sorted(site.rglob("*.css")) for fault in _of_sheet(sheet)]


def _of_page(path: Path, site: Path) -> Iterator[str]:
    page, name = _read(path), path.relative_to(site)
    yield from (f"{name}: fetches {url}" for url in page.fetched if is_elsewhere(url))
    if "mermaid" in page.classes:
        yield f"{name}: holds a diagram whose script comes from a CDN"
    if name.as_posix() == NOT_FOUND:
        return
    for url in (*page.links, *page.fetched):
        target, _, anchor = unquote(url).partition("#")
        if is_elsewhere(url) or url.startswith(("data:", "mailto:", "javascript:")):
            continue
        there = (path.parent / target).resolve() if target not in ("", ".") else path
        there = there / "index.html" if there.is_dir() else there
        if not there.is_file():
            yield f"{name}: {url} leads nowhere"
        elif anchor and there.suffix == ".html" and anchor not in _read(there).places:
            yield f"{name}: {url}: the page has no such anchor"


def _of_sheet(path: Path) -> Iterator[str]:
    for url in re.findall(r"(?:url\(|@import\s+)['\"]?([^'\")\s]+)", path.read_text("utf-8")):
        if is_elsewhere(url):
            yield f"{path.name}: fetches {url}"


def is_elsewhere(url: str) -> bool:
    return url.startswith(("http:", "https:", "//"))


@cache
def _read(path: Path) -> Page:
    return Page(path.read_text("utf-8"))
