"""The tiny server of the client's tests, for the examples too."""

from __future__ import annotations

from tests.client.conftest import url

__all__ = ["url"]
