"""What several files here share: the command line, and a live server with an alarm to provoke."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import cyclopts
import httpx2
import pytest

from candor.item import Item
from candor.scoring.served import ServedProbe
from tests.service.evading import REFERENCE, flattery_probes, traffic
from tests.service.serving import load_tiny, running, score, tiny_app
from tests.stack.command_line import command_line

API_KEY = "k" * 32
OPERATOR_KEY = "o" * 32
POISON_TOKENS = 200
"""The engine raises on an item with more."""


@dataclass(frozen=True, slots=True)
class Live:
    """A server with both keys that has seen its reference traffic."""

    url: str
    stop: Callable[[], None]

    def send(self, body: object, *, status: int = 200) -> None:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        answer = score(self.url, body, headers=headers, timeout=120)
        assert answer.status_code == status, answer.text

    def send_plain(self) -> None:
        self.send({"items": traffic(2)})

    def send_evading(self) -> None:
        """Filler on every response: what `tests/service/watch/test_drift_evader.py` is about."""
        self.send({"items": traffic(1, filler=24)})

    def send_poison(self) -> None:
        self.send(
            {"items": [{"prompt": " sea" * 210, "templated": True, "responses": [" poem"]}]},
            status=500,
        )

    def send_wrong(self) -> None:
        self.send({"items": []}, status=400)

    def send_labels(self) -> None:
        """Judged rows, without which the server has no label metrics."""
        item = {"prompt": "sea", "templated": True, "responses": [" poem", " sea"]}
        body = {"items": [{**item, "labels": [1, 0], "drawn": "random"}]}
        headers = {"Authorization": f"Bearer {OPERATOR_KEY}"}
        answer = httpx2.post(f"{self.url}/v1/labels", json=body, headers=headers, timeout=120)
        assert answer.status_code == 200, answer.text

    def metrics(self) -> str:
        headers = {"Authorization": f"Bearer {OPERATOR_KEY}"}
        answer = httpx2.get(f"{self.url}/metrics", headers=headers)
        assert answer.status_code == 200
        return answer.text


def raise_on_poison(items: Sequence[Item]) -> None:
    if any(item.num_tokens > POISON_TOKENS for item in items):
        raise RuntimeError("no scores for this one")


@pytest.fixture(scope="session")
def app() -> cyclopts.App:
    return command_line()


@pytest.fixture(scope="module")
def probes() -> dict[str, ServedProbe]:
    return flattery_probes()


@pytest.fixture(scope="module")
def live(probes: dict[str, ServedProbe]) -> Iterator[Live]:
    app = tiny_app(
        lambda metrics: load_tiny(
            metrics,
            served=probes,
            before=raise_on_poison,
            prefix_cache_mb=1,
        ),
        api_key=API_KEY,
        operator_key=OPERATOR_KEY,
    )
    with ExitStack() as server:
        live = Live(server.enter_context(running(app)), server.close)
        live.send({"items": REFERENCE})
        yield live
