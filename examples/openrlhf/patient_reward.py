"""OpenRLHF's `reward_func`, for a Candor server that may be away: the same `/get_reward`, asked
with the client's patience in place of five tries a second apart.

    --reward.remote_url examples/openrlhf/patient_reward.py

OpenRLHF 0.11.2 loads it by path and calls it in a thread, one sample a call. The server is
CANDOR_REWARD_URL, its key CANDOR_API_KEY.
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
