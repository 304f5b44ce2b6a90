"""One template, one style sheet and one script make every page, in one file that fetches nothing.

`script/` is vanilla JavaScript, put together in the order of `SCRIPTS` in one function. The page's
data is JSON in a script element of another type, which no browser runs. The content security policy
names the hashes of the style sheet and the script, so nothing else can run, and nothing is
fetched. A live page may ask its own server, and no other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent
SCRIPTS = (
    "dom", "arithmetic", "plots", "tokens", "lambda_plot", "ranking", "strength", "compare",
    "why", "rows", "rowforms", "server", "editor", "operator", "main",
)  # fmt: skip
"""The parts of the script, in order."""


@cache
def style() -> str:
    """The style sheet of every page."""
    return (HERE / "page.css").read_text("utf-8")


@cache
def script() -> str:
    """The script of every page."""
    parts = [(HERE / "script" / f"{name}.js").read_text("utf-8") for name in SCRIPTS]
    return "\n".join(["(() => {", '"use strict";', *parts, "})();"])


def policy(*, live: bool = False) -> str:
    """The content security policy: this style, this script, and nothing from anywhere.

    Args:
        live: the page may also ask the server that it came from, and nobody may frame it. (A policy
            within a page cannot say the latter.)
    """
    rules = [
        "default-src 'none'",
        f"script-src {_hash(script())}",
        f"style-src {_hash(style())}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*rules, *(["connect-src 'self'", "frame-ancestors 'none'"] if live else [])])


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def render(
    template: Path, *, data: Mapping[str, Any] | None = None, live: bool = False, **page: Any
) -> str:
    """The page that `template` makes of `page`.

    Args:
        template: extends `base.html.j2` of this folder.
        data: what the script shows: `plots` (`candor.page.plots`), and `groups`, `model` and
            `probes` (`candor.page.groups`). JSON without NaN.
        live: the page is served with the header of `policy(live=True)`.

    Raises:
        jinja2.UndefinedError: the template asks for a name that is missing from `page`.
        TypeError: `data` is not JSON.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(
        style=Markup(style()),
        script=Markup(script()),
        policy=None if live else policy(),
        data=None if data is None else embedded(data),
        **page,
    )


def embedded(data: Mapping[str, Any]) -> Markup:
    """JSON for a script element. Without `<`, it can neither end the element nor begin another."""
    text = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY).decode("utf-8")
    return Markup(text.replace("<", "\\u003c"))


@cache
def inspector() -> bytes:
    """The live inspector. It holds nothing of the server that serves it."""
    return render(HERE / "templates" / "inspector.html.j2", live=True).encode()
