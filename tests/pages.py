"""Reads a page of `candor.page` as a browser would, without running it."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from typing import Any

from candor.page.render import policy


class PageText(HTMLParser):
    """What is in a page: its elements' names, what it would fetch, its handlers, its scripts, and
    the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.data: dict[str, Any] = {}
        self.policy: str | None = None
        self.plots: list[str] = []
        self.seen = ""
        self._inside: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        self.handlers += [name for name in named if name.startswith("on") or name == "style"]
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"]
        if "data-plot" in named:
            self.plots.append(named["data-plot"] or "")
        if tag in ("script", "style"):
            self._inside = "data" if named.get("type") == "application/json" else tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data = json.loads(data)
        elif self._inside is not None:
            (self.scripts if self._inside == "script" else self.styles).append(data)
        else:
            self.seen += data


def checked(html: str) -> PageText:
    """The page; fails unless it fetches nothing and its policy lets nothing but its own style and
    script run."""
    page = PageText(html)
    assert page.policy == policy()
    assert page.policy.startswith("default-src 'none'; ")
    assert "connect-src" not in page.policy
    assert "unsafe" not in page.policy
    assert [url for url in page.fetched if url != "data:,"] == []
    assert page.handlers == []
    assert not {"iframe", "object", "embed", "form", "img"} & set(page.tags)
    for found in (page.scripts, page.styles):
        (text,) = found
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.policy
    return page
