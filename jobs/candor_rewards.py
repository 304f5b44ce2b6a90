"""Entry point of the `candor` script. It stands outside the namespace `candor`, so that it can say
when another package of that name hides Candor's."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs `candor.__main__.main`, or says in one sentence which package is in the way."""
    import candor

    if (found := getattr(candor, "__file__", None)) is not None:
        try:
            import candor.__main__
        except ModuleNotFoundError as error:
            if error.name not in {"candor.__main__", "candor.version"}:
                raise
            sys.exit(
                f"candor: the package {found} is not Candor and hides it; uninstall or rename that "
                "package, or leave its folder out of PYTHONPATH"
            )
    from candor.__main__ import main as command

    command()
