"""The reward server: `docs/design.md` says which file does what."""

VERSION = "0.1.0"
"""Of the distribution; equal to pyproject.toml (a test holds it), readable from a source tree
too."""
