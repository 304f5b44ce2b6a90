"""The golden bodies, and the answer of `/v1/rewards` to the same conversations.

Each file of `bodies/` has a body as one trainer composes it (`source`, `versions`), in the template
of the tests' tokeniser, and the same conversations in the format of `/v1/rewards`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

BODIES = Path(__file__).parent / "bodies"


@dataclass(frozen=True)
class Golden:
    """One file of `bodies/`. `client` names a function of `clients.py`."""

    name: str
    client: str
    trainer: str
    versions: str
    source: str
    path: str
    note: str
    body: dict[str, Any]
    items: list[dict[str, Any]]


def load_all() -> list[Golden]:
    return [Golden(path.stem, **json.loads(path.read_text())) for path in sorted(BODIES.iterdir())]


def native(url: str, items: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
    """The scored responses in the answer of `/v1/rewards`, in order."""
    if not items:
        return []
    answer = httpx2.post(f"{url}/v1/rewards", json={"items": items}, timeout=60, **options)
    answer.raise_for_status()
    return [one for result in answer.json()["results"] for one in result["responses"]]
