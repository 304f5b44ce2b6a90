"""One small conversation in the forms that the routes take it in, and how a test reads answers."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.service.trainers.field_lists import rewards_in
from tests.tiny import tiny_tokenizer

USER, REPLY, OTHER = "Is the sea blue?", "Yes.", "The poem is good."
PROMPT = f"<|im_start|>user\n{USER}<|im_end|>\n<|im_start|>assistant\n"
TEXT = f"{PROMPT}{REPLY}<|im_end|>"
OTHER_TEXT = f"{PROMPT}{OTHER}<|im_end|>"
TURN = {"role": "user", "content": USER}
CHAT = [TURN, {"role": "assistant", "content": REPLY}]
OTHER_CHAT = [TURN, {"role": "assistant", "content": OTHER}]
ITEM = {"messages": [TURN], "responses": [REPLY]}
OTHER_ITEM = {"messages": [TURN], "responses": [OTHER]}
BOTH = [ITEM, OTHER_ITEM]
IDS = tiny_tokenizer()(TEXT, add_special_tokens=False).input_ids


def answered(web: httpx2.Client, path: str, body: Any) -> list[float]:
    """The rewards in an answer."""
    response = web.post(path, json=body)
    assert response.status_code == 200, response.text
    return rewards_in(response.json())


def message_of(response: httpx2.Response) -> str:
    """The message of an answer that refuses a body, and holds nothing else."""
    assert response.status_code in (400, 422), response.text
    assert response.json().keys() == {"error"}
    return str(response.json()["error"]["message"])
