"""A headless Chromium, and a tiny server to open in it. Without a browser the tests skip."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.service.serving import running, tiny_app

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium under Playwright. Ended with each file: Playwright keeps an event loop
    running in this thread, in which `asyncio.run` of other tests would fail."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no browser: apt-get install chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"], timeout=300_000
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url
