"""A tiny server that the API tests of one file share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.serving import running, tiny_app


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url
