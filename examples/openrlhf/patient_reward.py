"""OpenRLHF's `reward_func` for a Candor server that may restart: it asks the same `/get_reward`
with the client's patience, where OpenRLHF itself tries five times, a second apart.

    --reward.remote_url examples/openrlhf/patient_reward.py

OpenRLHF 0.11.2 loads this file by path and calls it in a thread, with one sample per call.
CANDOR_REWARD_URL is the server's URL, CANDOR_API_KEY its key.
"""

from __future__ import annotations

import os
from typing import Any

import httpx2

from candor.client.retry import Retry, send

PATIENCE_S = float(os.environ.get("CANDOR_PATIENCE_S", "1800"))


def reward_func(queries: list[str], prompts: list[str], labels: list[Any]) -> dict[str, Any]:
    """`rewards`, `scores` and `extra_logs`, as `/get_reward` answers.

    Raises:
        client.ClientError: refused for good, or away for longer than the patience.
    """
    key = os.environ.get("CANDOR_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"{os.environ['CANDOR_REWARD_URL']}/get_reward"
    body = {"query": queries, "prompts": prompts, "labels": labels}
    with httpx2.Client(headers=headers, timeout=180.0) as client:
        told: dict[str, Any] = send(
            client, client.build_request("POST", url, json=body), Retry(PATIENCE_S)
        ).json()
    return told
