"""Pages in a browser, and rows to make them of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@dataclass
class Opened:
    """A page in the browser, with what it asked for and what went wrong in it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def strangers(self, own: str) -> list[str]:
        """What it asked of anybody but `own`."""
        return [one for one in self.requests if not one.startswith((own, "data:", "blob:"))]


@contextlib.contextmanager
def opened(
    browser: Browser, url: str, *, width: int = 1280, height: int = 900, **options: Any
) -> Iterator[Opened]:
    """`url` in a window of its own. Errors of the page and of its policy fail the test."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(120_000)
    found = Opened(context.new_page())
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))
    found.page.on(
        "console",
        lambda message: found.errors.append(message.text) if message.type == "error" else None,
    )
    found.page.goto(url)
    yield found
    context.close()
    assert found.errors == []


def scored_row(
    key: str, candidates: Mapping[str, tuple[float, float]], lambda_: float = 1.0, **more: Any
) -> dict[str, Any]:
    """A row as `candor score` writes it: text -> (R, bound(S)) of each candidate."""
    return {
        "key": key,
        "messages": [{"role": "user", "content": f"question {key}"}],
        "responses": [{"text": text} for text in candidates],
        "reward_model": {
            "id": "made",
            "revision": "00" * 32,
            "combine": {"kind": "sum", "spread_weight": 1.0},
            "methods": {"syc": "subtract"},
            "probes_sha256": "11" * 32,
        },
        "scores": [
            {
                "base_reward": base,
                "penalty": lambda_ * bounded,
                "reward": base - lambda_ * bounded,
                "probes": {"syc": {"score": bounded, "bounded": bounded, "lambda": lambda_}},
                "num_tokens": 9,
                "truncated": False,
            }
            for base, bounded in candidates.values()
        ],
        **more,
    }
