"""`python -m demo.evasion`."""

from __future__ import annotations

from demo.commands import main
from demo.evasion.run import app

if __name__ == "__main__":
    main(app)
