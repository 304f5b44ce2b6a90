"""Tiny servers for all tests of the adapters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from tests.service.serving import load_tiny, running, tiny_app, tiny_reward_model
from tests.service.text.templates import TOOLS


@pytest.fixture(scope="package")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url


@pytest.fixture(scope="package")
def tool_url() -> Iterator[str]:
    """A server whose template writes tools, calls and reasoning."""
    model = dataclasses.replace(tiny_reward_model(TOOLS), max_length=1024)
    with running(tiny_app(lambda metrics: load_tiny(metrics, reward_model=model))) as url:
        yield url
