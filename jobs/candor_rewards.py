"""Entry point of the `candor` script. It stands outside the namespace `candor`, so that it can say
when another package of that name hides Candor's."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Runs `candor.__main__.main`, or says in one sentence which package is in the way."""
    spec = find_spec("candor")
    if spec is not None and spec.has_location:  # Candor's has none: it has no `__init__.py`
        sys.exit(
            f"candor: the package {spec.origin} is not Candor and hides it; uninstall or rename "
            "that package, or leave its folder out of PYTHONPATH"
        )
    from candor.__main__ import main as command

    command()
