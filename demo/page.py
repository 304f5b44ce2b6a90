"""The demos' pages: self-contained HTML (inline SVG, no script, nothing fetched)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: Path, out: Path, **page: Any) -> None:
    """Write the page that `template` makes of `page`.

    Args:
        template: extends `base.html.j2` of this folder.

    Raises:
        jinja2.UndefinedError: the template asks for a name that is missing from `page`.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(environment.get_template(template.name).render(**page), encoding="utf-8")
