"""Lengths of the drift windows, in responses. A file of its own, so that the flags can name them
without importing the code that computes drift."""

from __future__ import annotations

MIN_WINDOW = 128
"""Two windows of 128 responses have a PSI of 0.14 without drift (`candor.probes.drift`). Shorter
windows say nothing."""

DEFAULT_WINDOW = 1024
MAX_WINDOW = 16_384
"""With this window the statistics of four probes take 0.1 to 0.2 s of the event loop."""
