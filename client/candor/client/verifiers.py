"""verifiers and prime-rl: a reward to plug into any task, by configuration alone.

    [env.taskset.task.rewards.candor]
    fn = "candor.client.verifiers:candor_reward"

or from a task of your own: `@vf.reward async def candor(self, trace): return await
candor_reward(trace)`. Address and key of the server come from CANDOR_REWARD_URL and CANDOR_API_KEY.
A rollout that cannot be scored raises: verifiers records the error and trains without it.
Written against verifiers 0.4.0 (`v1/task.py`, `v1/trace.py`); prime-rl runs `verifiers.v1`.

Not here: the legacy rubrics (up to 0.3), which turn a failed reward into 0.0.
"""

from __future__ import annotations

from typing import Any

from candor.client.rows import RewardServer, Unscorable


async def candor_reward(trace: Any, *, server: RewardServer | None = None) -> float:
    """The penalised reward of the trace's last assistant message. The messages before it are the
    context. R, the penalty and each S become the metrics `candor/base_reward`, `candor/penalty` and
    `candor/score/NAME`.

    Raises:
        ClientError: the message could not be scored.
        ValueError: no URL.
    """
    messages = [openai_form(message.model_dump(exclude_none=True)) for message in trace.messages]
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    if len(messages) < 2:
        raise Unscorable("the trace has no assistant message after a prompt")
    scored = await (server or RewardServer.of_environment()).reward(messages[:-1], messages[-1])
    for name, value in scored.parts.items():
        trace.record_metric(f"candor/{name}", value)
    for name, reading in scored.probes.items():
        trace.record_metric(f"candor/score/{name}", reading.score)
    return scored.reward


def openai_form(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its tool calls in OpenAI's form, which chat templates read; verifiers writes
    `{"id", "name", "arguments"}`."""
    calls = [
        call
        if "function" in call
        else {
            **({"id": call["id"]} if "id" in call else {}),
            "type": "function",
            "function": {"name": call.get("name"), "arguments": call.get("arguments")},
        }
        for call in message.get("tool_calls") or ()
    ]
    return message | {"tool_calls": calls} if calls else message
