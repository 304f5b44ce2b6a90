"""Gathers the pages of the site: docs/, the Markdown files beside it, and what they link to.

In the repository a page links to any file. In the site every link must lead to a page, so a linked
file that is no page becomes one that shows its text (under `source/`), and the links are written
anew.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BESIDE = {
    "README.md": "overview.md",  # Zensical takes README.md for the home page
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "client/README.md": "client.md",
}
"""Pages outside docs/ and examples/, and their places in the site."""
LANGUAGES = {".py": "python", ".sh": "sh", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}

_FENCE = re.compile(r"^(?:```.*?^```[ \t]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")


def place_of(file: Path) -> str:
    """Where a file of the repository stands in the site."""
    name = file.relative_to(ROOT).as_posix()
    if name in BESIDE:
        return BESIDE[name]
    if file.is_relative_to(ROOT / "docs"):
        return file.relative_to(ROOT / "docs").as_posix()
    if file.parent == ROOT / "examples" and file.suffix == ".md":
        return name
    # Zensical leaves out files whose name begins with a dot, such as .env.example.
    return "source/" + re.sub(r"(^|/)\.", r"\1dot-", name) + ".md"


def gather(folder: Path) -> None:
    """Writes every page, and what docs/ holds beside pages, into `folder`.

    Raises:
        FileNotFoundError: a page links to a file that is not there.
    """
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.md", "raw"))
    waiting = [*_written_pages()]
    done: set[Path] = set()
    for file in waiting:
        if file in done:
            continue
        done.add(file)
        linked: list[Path] = []
        written = file.suffix == ".md"
        text = relinked(file, linked) if written else source_page(file)
        target = folder / place_of(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        waiting += [one for one in linked if is_page(one)]


def _written_pages() -> Iterator[Path]:
    yield from sorted((ROOT / "docs").rglob("*.md"))
    yield from sorted((ROOT / "examples").glob("*.md"))
    yield from (ROOT / name for name in BESIDE)


def is_page(file: Path) -> bool:
    """Whether a file is shown as a page: one of Markdown, or one outside docs/."""
    return file.suffix == ".md" or not file.is_relative_to(ROOT / "docs")


def relinked(file: Path, linked: list[Path]) -> str:
    """The text of a page with links that fit the site; adds the files it links to."""
    text = file.read_text("utf-8")

    def anew(match: re.Match[str]) -> str:
        target, mark, anchor = match[1].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[1]
        there = (file.parent / target).resolve()
        if not there.exists():
            raise FileNotFoundError(f"{file.relative_to(ROOT)}: links to {target}")
        linked.append(there)
        here = Path(place_of(file)).parent
        return os.path.relpath(place_of(there), here) + mark + anchor

    parts: list[str] = []
    end = 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(anew, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(anew, text[end:])])


def source_page(path: Path) -> str:
    """A page that shows a file of the repository, or the files of a folder."""
    files = [path] if path.is_file() else sorted(one for one in path.iterdir() if one.is_file())
    shown = [f"# {path.relative_to(ROOT).as_posix()}\n"]
    for file in files:
        heading = [f"## {file.name}\n"] if path.is_dir() else []
        text = file.read_text("utf-8").rstrip("\n")
        language = LANGUAGES.get(file.suffix, "text")
        shown += [*heading, f"````{language}\n{text}\n````\n"]
    return "\n".join(shown)


def title_and_summary(text: str) -> tuple[str, str]:
    """The first heading of a page, and the first sentence below it that is not the list of its
    words, both without marks."""
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    if heading is None:
        return "", ""
    body = _FENCE.sub("", text[heading.end() :])
    paragraphs = (one.strip() for one in re.split(r"\n\s*\n", body))
    first = next((one for one in paragraphs if re.match(r"(?!Words:)[\w`*\[]", one)), "")
    sentence = re.split(r"(?<=\.)\s(?=\W*[A-Z])", " ".join(first.split()), maxsplit=1)[0]
    return plain(heading[1]), plain(sentence)


def plain(text: str) -> str:
    """Without the marks of links, code and emphasis."""
    return re.sub(r"[`*]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)).strip()
