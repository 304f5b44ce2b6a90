"""The version of Candor, readable from a source tree too."""

VERSION = "0.1.0"
"""Version of both distributions; equal to the two pyproject.toml (a test holds it)."""
