"""How many judged prompts a window holds.

Imports nothing, because `candor serve --help` reads it.
"""

MIN_WINDOW = 8
"""Fewest prompts of a window: with fewer, its mean says little."""

DEFAULT_WINDOW = 64
"""Prompts of a window, unless the server is given another number."""
