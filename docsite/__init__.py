"""The documentation site: `make docs`. Needs a clone; in no wheel."""
