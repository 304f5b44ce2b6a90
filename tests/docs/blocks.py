"""The code blocks of the documentation, in order."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.paths import ROOT

GLOBS = ("README.md", "CONTRIBUTING.md", "client/*.md", "docs/**/*.md", "examples/*.md")
PAGES = sorted(page for glob in GLOBS for page in ROOT.glob(glob))
SHELL = ("sh", "bash", "shell", "console")

_FENCE = re.compile(r"^```(.*)$")


@dataclass(frozen=True)
class Block:
    """Attributes:
    page: its path in the repository.
    language: the word behind the fence; "sh" for an indented block.
    """

    page: str
    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.splitlines()[0].strip()

    def __str__(self) -> str:
        return f"{self.page}: {self.first_line[:60]}"


@cache
def blocks_of(page: Path) -> list[Block]:
    """All code blocks of a page."""
    name = str(page.relative_to(ROOT))
    found: list[Block] = []
    fence: str | None = None
    lines: list[str] = []
    indented = False
    for line in [*page.read_text(encoding="utf-8").splitlines(), "end"]:
        fenced = _FENCE.match(line)
        if fence is None and not fenced and (indented or lines == [""]) and line.startswith("    "):
            lines = [*(lines if indented else []), line.removeprefix("    ")]
            indented = True
            continue
        if indented and not line.strip():
            lines.append("")
            continue
        if indented:
            found.append(Block(name, "sh", "\n".join(lines).strip("\n")))
            indented, lines = False, []
        if fenced and fence is None:
            fence, lines = fenced[1].partition(" ")[0], []
        elif fenced:
            found.append(Block(name, fence or "", "\n".join(lines)))
            fence, lines = None, []
        elif fence is not None:
            lines.append(line)
        else:
            lines = [line.strip()][:1]
    return found


def is_shell(block: Block) -> bool:
    """Whether the block holds commands. Settings of a trainer, which are printed in `sh` for the
    colours, begin with a dash, a plus or a dotted name."""
    lines = [line for line in block.text.splitlines() if line.strip()]
    settings = all(re.match(r"[-+]|\w+(\.\w+)+=", line) for line in lines)
    return block.language in SHELL and not settings


def commands(text: str) -> list[str]:
    """The commands of a shell block, each with all of its lines, without comment lines."""
    found: list[str] = []
    gathered = ""
    for line in text.splitlines():
        if not gathered and (not line.strip() or line.startswith("#")):
            continue
        gathered += line + "\n"
        if line.endswith("\\"):
            continue
        complete = subprocess.run(["bash", "-n", "-c", gathered], capture_output=True, check=False)
        if complete.returncode == 0:
            found.append(gathered.strip())
            gathered = ""
    assert not gathered, f"bash cannot read: {gathered}"
    return found
