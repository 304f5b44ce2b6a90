"""The answer of `/v1/rewards` to the conversations of the recorded bodies."""

from __future__ import annotations

from typing import Any

import httpx2


def native(url: str, items: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
    """The scored responses in the answer of `/v1/rewards`, in order."""
    if not items:
        return []
    answer = httpx2.post(f"{url}/v1/rewards", json={"items": items}, timeout=60, **options)
    answer.raise_for_status()
    return [one for result in answer.json()["results"] for one in result["responses"]]
