"""The documentation site in a real browser: served by any file server, it asks nobody else."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from docsite.build import build

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    out = tmp_path_factory.mktemp("built") / "site"
    assert build(out=out) == 0
    handler = functools.partial(Quiet, directory=str(out))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(120_000)
    yield page
    page.close()


def watched(page: Page) -> tuple[list[str], list[str]]:
    """What the page asks for, and its errors, from now on."""
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    return asked, errors


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "api", "design", "options"])
def test_a_page_asks_its_own_server_alone(page: Page, address: str, name: str) -> None:
    asked, errors = watched(page)
    page.goto(f"{address}/{name}.html", wait_until="load")
    page.wait_for_timeout(500)
    assert len(asked) > 3
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert errors == []


@pytest.mark.slow
def test_the_check_would_see_another_server(page: Page, address: str) -> None:
    asked, _ = watched(page)
    page.goto(f"{address}/index.html")
    page.evaluate("fetch('http://127.0.0.2:9/x').catch(() => null)")
    assert [url for url in asked if not url.startswith(address)]


@pytest.mark.slow
def test_the_search_finds_a_word_without_a_network(page: Page, address: str) -> None:
    asked, _ = watched(page)
    page.goto(f"{address}/index.html", wait_until="load")
    box = page.get_by_placeholder("Search")
    for _ in range(100):  # the page's script may still be starting
        page.keyboard.press("Control+k")
        page.wait_for_timeout(500)
        if box.is_visible():
            break
    found = page.locator("a[href*='metrics.html?h=']")  # a result, and no link of the navigation
    assert found.count() == 0
    box.fill("population stability")
    found.first.wait_for(state="visible")
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
