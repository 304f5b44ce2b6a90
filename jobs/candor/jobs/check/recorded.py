"""The recorded requests: bodies as each trainer composes them, version by version.

Each file of `bodies/` has one body with its source, and the same conversations in the format of
`POST /v1/rewards`. Texts that a trainer templates itself are in ChatML, the template of Qwen and
SmolLM2. The tests replay the same files against a live server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

BODIES = Path(__file__).parent / "bodies"

HEADER, END = "<|im_start|>", "<|im_end|>"
RECORDED_PAD = "</s>"
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}

TRAINERS = {
    "openrlhf": "OpenRLHF",
    "verl": "verl",
    "slime": "slime",
    "miles": "miles",
    "align-anything": "align-anything",
    "llama-factory": "LLaMA-Factory",
    "vllm": "clients of vLLM",
    "sglang": "clients of SGLang",
    "tei": "clients of Text Embeddings Inference",
    "infinity": "clients of Infinity",
    "openai": "OpenAI's embeddings client",
}
"""Trainers with recorded bodies, by the word that their files begin with."""


@dataclass(frozen=True)
class Recorded:
    """One file of `bodies/`.

    Attributes:
        name: the file's name.
        client: how the trainer reads the answer: a key of `candor.jobs.check.readers.READERS`.
        trainer, versions, source: which code composes the body.
        path: the route that it is sent to.
        note: what is special about it.
        body: the body.
        items: the same conversations, as `POST /v1/rewards` takes them.
    """

    name: str
    client: str
    trainer: str
    versions: str
    source: str
    path: str
    note: str
    body: dict[str, Any]
    items: list[dict[str, Any]]

    @property
    def release(self) -> tuple[int, ...]:
        """The version in the file's name; empty where a trainer has no versions."""
        found = re.search(r"-(\d+(?:\.\d+)+)", self.name)
        return tuple(map(int, found[1].split("."))) if found else ()

    @property
    def is_templated(self) -> bool:
        """Whether the body holds text that the trainer has put into the policy's template."""
        return HEADER in json.dumps(self.body)

    @property
    def sent_body(self) -> dict[str, Any]:
        """The body for any model whose template is ChatML.

        Without the pads of the tokeniser that it was recorded with, because the policy's pad is
        another token; and with a system turn in each conversation, because some models' templates
        write one where there is none.
        """
        found: dict[str, Any] = _in_texts(self.body)
        return found

    @property
    def sent_items(self) -> list[dict[str, Any]]:
        """The conversations of `sent_body`, as `POST /v1/rewards` takes them."""
        return [
            item | {"messages": [SYSTEM, *item["messages"]]} if self._gets_system(item) else item
            for item in self.items
        ]

    def _gets_system(self, item: dict[str, Any]) -> bool:
        """Whether the body has this conversation as templated text, without a system turn."""
        first = item["messages"][0]
        turn = f"{HEADER}{first['role']}\n{first['content']}{END}"
        return first["role"] == "user" and json.dumps(turn)[1:-1] in json.dumps(self.body)

    @property
    def has_token_ids(self) -> bool:
        """Whether the body holds ids of the tokeniser that it was recorded with."""
        return "input_ids" in self.body


def _in_texts(value: Any) -> Any:
    """A body with the changes of `Recorded.sent_body` in its texts."""
    if isinstance(value, list):
        return [_in_texts(part) for part in value]
    if isinstance(value, dict):
        return {name: _in_texts(part) for name, part in value.items()}
    if not isinstance(value, str):
        return value
    text = value.replace(RECORDED_PAD, "")
    if f"{HEADER}system" not in text:
        turn = f"{HEADER}system\n{SYSTEM['content']}{END}\n"
        text = text.replace(f"{HEADER}user", f"{turn}{HEADER}user", 1)
    return text


@cache
def recorded() -> tuple[Recorded, ...]:
    """Every recorded body, by name."""
    files = sorted(BODIES.glob("*.json"))
    return tuple(Recorded(file.stem, **json.loads(file.read_text("utf-8"))) for file in files)


def recorded_of(trainer: str) -> Sequence[Recorded]:
    """The bodies of one trainer, the newest version first."""
    found = [one for one in recorded() if re.match(rf"{trainer}-", one.name)]
    return sorted(found, key=lambda one: one.release, reverse=True)
