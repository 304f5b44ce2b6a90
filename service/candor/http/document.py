"""`python -m candor.http.document` prints the OpenAPI document of a server without a key.
`docs/openapi.json` is a copy; a test checks that the two are equal."""

from __future__ import annotations

import orjson

from candor.http.app import create_app
from candor.scoring.rewarder import Rewarder
from candor.settings import Settings
from candor.watch.metrics import Metrics


def document() -> bytes:
    """The document, sorted and indented, with a newline at the end."""
    app = create_app(Settings(model="described"), never_loaded)
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(app.openapi(), option=options)


def never_loaded(_: Metrics) -> Rewarder:
    """The `load` of an application that is only described and never run."""
    raise RuntimeError("this application is described, not run")


if __name__ == "__main__":
    print(document().decode(), end="")
