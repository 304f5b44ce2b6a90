"""The server that the tests of `candor generate` and `candor score` ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.jobs.stub import Stub, running_stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    with running_stub() as running:
        yield running
