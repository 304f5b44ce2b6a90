"""One live server for all replayed bodies."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from candor.trainers.options import TrainerRoutes
from tests.service.serving import running, tiny_app


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url


@pytest.fixture(scope="session")
def strict() -> Iterator[str]:
    """A server that refuses responses without a token."""
    with running(tiny_app(trainers=TrainerRoutes(empty_response="error"))) as url:
        yield url


@pytest.fixture(scope="session")
def web(url: str) -> Iterator[httpx2.Client]:
    """A client of that server, which keeps its connection."""
    with httpx2.Client(base_url=url, timeout=60) as client:
        yield client
