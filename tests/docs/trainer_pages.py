"""The pages of docs/trainers/: their headings, code blocks and exchanges."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT

FOLDER = ROOT / "docs" / "trainers"
INDEX = FOLDER / "index.md"
HEADINGS = [
    "What you get",
    "Versions",
    "Start Candor",
    "Point the trainer at it",
    "What goes over the wire",
    "What you will see in your logs",
    "When things fail",
    "Sizing",
    "Check it",
    "Errors you may meet",
]
TRAINERS: dict[str, Sequence[str]] = {
    "openrlhf": ["openrlhf"],
    "trl": ["trl"],
    "verl": ["verl"],
    "slime": ["slime", "miles"],
    "align-anything": ["align-anything"],
    "llama-factory": ["llama-factory"],
    "verifiers": ["verifiers"],
    "nemo": ["nemo"],
    "servers": ["vllm", "sglang", "tei", "infinity", "openai"],
    "http": [],
}
"""By page: the trainers that it is about, as `candor check --trainer` names them."""
PAGES = [FOLDER / f"{name}.md" for name in TRAINERS]

NETWORK, PAGE_TEST, TRL = (
    "tests/process/test_network.py",
    "tests/docs/test_trainers.py",
    "tests/docs/test_trl_page.py",
)
BLOCKS = {
    "openssl rand": NETWORK,
    "candor serve": NETWORK,
    "candor check": NETWORK,
    "curl -f": NETWORK,
    "export CANDOR": NETWORK,
    "python examples/verl/data.py": TRL,
    "CANDOR_REWARD_URL=http://reward-host:8000 trl grpo": TRL,
    "from datasets import": TRL,
    "from nemo_gym": PAGE_TEST,
    "from candor.client import": PAGE_TEST,
}
"""By the beginning of a block of shell or Python: the test that runs it, on whatever page."""

_FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"\n]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fence:
    """One code block: the language, its title ("" for none), its text, and where the text is."""

    language: str
    title: str
    text: str
    span: tuple[int, int]


@dataclass(frozen=True)
class Exchange:
    """A request and its answer, as printed."""

    path: str
    request: str
    answer: Fence


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def section(page: Path, heading: str) -> str:
    """The text below a heading of the second level."""
    (found,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text_of(page), re.M | re.S)
    return str(found)


def fences(text: str) -> list[Fence]:
    return [Fence(one[1], one[2] or "", one[3], one.span(3)) for one in _FENCE.finditer(text)]


def exchanges(page: Path) -> Iterator[Exchange]:
    """Every request of a page with the answer that is printed behind it."""
    titled = [one for one in fences(text_of(page)) if one.title]
    assert len(titled) % 2 == 0, page
    for asked, answered in zip(titled[::2], titled[1::2], strict=True):
        method, path = asked.title.split()
        assert (method, answered.title) == ("POST", "answer"), (page, asked.title)
        yield Exchange(path, asked.text, answered)


def block(page: Path, words: str, language: str = "sh") -> str:
    """The one code block of a page that begins with these words."""
    found = [one.text for one in fences(text_of(page)) if one.language == language]
    (text,) = [one for one in found if one.startswith(words)]
    return text.strip()


def start_lines(page: Path) -> str:
    """The commands of "Start Candor" that start a server with a key."""
    return block_in(section(page, "Start Candor"), "openssl")


def block_in(text: str, words: str) -> str:
    (found,) = [one.text for one in fences(text) if one.text.startswith(words)]
    return found.strip()


def urls(page: Path) -> list[str]:
    """The addresses that "Point the trainer at it" gives the trainer, in order."""
    return re.findall(r"http://[\w:@-]+:8000[/\w]*", section(page, "Point the trainer at it"))


def error_messages(page: Path) -> list[str]:
    """The messages in the page's table of errors."""
    heading = "Errors that every trainer may meet" if page == INDEX else HEADINGS[-1]
    return re.findall(r"^\| `(.+?)` \|", section(page, heading), re.MULTILINE)


def trainer_blocks() -> dict[str, dict[str, str]]:
    """By page: `BLOCKS`, as far as the page has such a block."""
    return {
        str(page.relative_to(ROOT)): {
            words: test
            for words, test in BLOCKS.items()
            if any(one.text.startswith(words) for one in fences(text_of(page)))
        }
        for page in [INDEX, *PAGES]
    }
