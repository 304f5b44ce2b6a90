"""`llms.txt`: the site's pages for a language model, by the proposal of llmstxt.org.

It lists the pages of the navigation by section, each with its first sentence. It links to the
Markdown of each page, which lies beside the HTML.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docsite.pages import title_and_summary


def llms_txt(project: dict[str, Any], pages: Path) -> str:
    """The text of the file.

    Args:
        project: the configuration with its completed `nav`.
        pages: the folder of the gathered pages.
    """
    lines = [f"# {project['site_name']}\n", f"> {project['site_description']}\n"]
    for section in project["nav"]:
        for name, there in section.items():
            lines.append(f"## {name}\n")
            lines += [_line(page, pages) for page in paths_in(there)]
            lines.append("")
    return "\n".join(lines)


def paths_in(entry: Any) -> Iterator[str]:
    """The paths of an entry of the navigation, in order."""
    if isinstance(entry, str):
        yield entry
        return
    for one in entry.values() if isinstance(entry, dict) else entry:
        yield from paths_in(one)


def _line(page: str, pages: Path) -> str:
    title, summary = title_and_summary((pages / page).read_text("utf-8"))
    return f"- [{title}]({page}): {summary}"
