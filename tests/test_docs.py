"""Links, files, modules, make targets, commands and flags that the documentation names exist."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from candor.cli.commands import COMMANDS, GROUPS
from tests.paths import ROOT

GLOBS = ("README.md", "CONTRIBUTING.md", "client/*.md", "docs/**/*.md", "examples/*.md")
PAGES = sorted(page for glob in GLOBS for page in ROOT.glob(glob))
"""All pages but the changelog, which names what is gone."""
SOURCE_ROOTS = [ROOT / name for name in ("client", "forward", "jobs", "probes", "service")]
FOLDERS = "bench|client|demo|docker|docs|examples|forward|jobs|probes/candor|service|tests"
pytestmark = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code(page: Path) -> list[str]:
    """A page's code: `inline`, lines of fenced and of indented blocks, continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = chain.from_iterable(block.splitlines() for block in fenced)
    indented = re.findall(r"^ {4,}(?=\S)(.*)$", rest, re.MULTILINE)
    return [*lines, *indented, *re.findall(r"`([^`\n]+)`", rest)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_files_and_modules_exist(page: Path) -> None:
    for line in code(page):
        for name in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w/?(?![\w*<{{])", line):
            assert (ROOT / name).exists(), name
        for dotted in re.findall(r"(?<![\w/.-])candor\.[a-z_]+(?:\.[A-Za-z_]+)*(?![\w(-])", line):
            if not dotted.endswith((".json", ".yaml", ".ts")):
                assert has_module(dotted), dotted


def has_module(dotted: str) -> bool:
    """Whether a name is a module of ours, or a name that a module of ours mentions."""
    parts = dotted.split(".")
    for root in SOURCE_ROOTS:
        path = root.joinpath(*parts)
        if path.is_dir() or path.with_suffix(".py").is_file():
            return True
        owner = root.joinpath(*parts[:-1])
        for file in (owner.with_suffix(".py"), owner / "__init__.py"):
            if file.is_file() and re.search(rf"\b{parts[-1]}\b", file.read_text(encoding="utf-8")):
                return True
    return False


def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in code(page):
        for command in re.findall(r"^make ((?:[a-z-]+ ?)+)", line.split("#")[0]):
            for target in command.split():
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_commands_and_flags_exist(page: Path) -> None:
    known = command_words()
    for line in code(page):
        for command in re.findall(r"(?:^|[\s`(])candor((?: [a-z]+){1,2})", line):
            first, *rest = command.split()
            assert first in known, f"candor {first}"
            assert first not in GROUPS or not rest or rest[0] in known, f"candor {first} {rest}"
        if re.match(r"(\.venv/bin/)?candor ", line):
            for flag in re.findall(r"(?<=\s)--[a-z][\w-]*", line.split(" #")[0]):
                name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
                assert re.search(rf"\b{name}\b|{flag}\b", sources()), f"{line}: {flag}"


@cache
def command_words() -> set[str]:
    """Every word of the command line that the table of commands holds."""
    return {word for command in COMMANDS for word in command.name.split()}


@cache
def sources() -> str:
    """The text of all modules that take flags."""
    files = chain(ROOT.glob("service/candor/**/*.py"), ROOT.glob("jobs/candor/**/*.py"))
    return "".join(file.read_text(encoding="utf-8") for file in files)
