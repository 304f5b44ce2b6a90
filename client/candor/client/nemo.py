"""NeMo Gym (and NeMo-RL through it): the reward of a resources server's `verify`.

    class Flattery(SimpleResourcesServer):
        async def verify(self, body: BaseVerifyRequest) -> BaseVerifyResponse:
            return BaseVerifyResponse(**body.model_dump() | await gym_reward(body))

Address and key of the server come from CANDOR_REWARD_URL and CANDOR_API_KEY. A rollout that cannot
be scored raises: the route answers 500 and the rollout fails; no number is made up.
Written against NVIDIA-NeMo/Gym 07d6b0d (August 2026), `base_resources_server.py`.

Not here: NeMo-RL's in-process `RewardModelEnvironment`, which is no remote call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from candor.client.rows import MessagesAndTools, RewardServer, Unscorable


async def gym_reward(body: Any, *, server: RewardServer | None = None) -> dict[str, float]:
    """`reward` (penalised), `base_reward` (R), `penalty` and `probe_NAME` (S) of the rollout's last
    assistant message. The messages before it are its context. S is the number that the adapter for
    TRL logs as `candor/score/NAME`.

    Args:
        body: a `BaseVerifyRequest`.
        server: the server to ask; None is the environment's.

    Raises:
        Unscorable: the rollout has no assistant message, or an item that holds no text.
        ClientError: the message could not be scored.
        ValueError: no URL.
    """
    parameters = body.responses_create_params.model_dump()
    given = parameters["input"]
    asked = [{"role": "user", "content": given}] if isinstance(given, str) else chat_form(given)
    if parameters.get("instructions"):
        asked.insert(0, {"role": "system", "content": parameters["instructions"]})
    said = chat_form(body.response.model_dump()["output"])
    while said and said[-1]["role"] != "assistant":
        said.pop()  # what a tool answered to the last call
    if not said:
        raise Unscorable("the rollout has no message of the assistant")
    tools = [chat_tool(tool) for tool in parameters.get("tools") or ()]
    context = MessagesAndTools([*asked, *said[:-1]], tools)
    scored = await (server or RewardServer.of_environment()).reward(context, said[-1])
    return {"reward": scored.reward, **scored.parts} | {
        f"probe_{name}": reading.score for name, reading in scored.probes.items()
    }


def chat_form(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Items of OpenAI's responses API as chat messages, which the reward model's template reads.

    A turn of the assistant is several items: what it thought, what it said, what it called. They
    become one message, as long as they come in this order.

    Raises:
        Unscorable: an item is of another type, such as an image that the model made.
    """
    turns: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type") or "message"
        if kind == "message" and "role" in item:
            message = {"role": item["role"], "content": item.get("content")}
            if message["role"] == "assistant" and _is_open(turns, "content", "tool_calls"):
                turns[-1]["content"] = message["content"]
            else:
                turns.append(message)
        elif kind == "reasoning":
            if not _is_open(turns, "content", "tool_calls"):
                turns.append({"role": "assistant"})
            thoughts = [turns[-1].get("reasoning_content"), _thought(item)]
            turns[-1]["reasoning_content"] = "\n".join(filter(None, thoughts)) or None
        elif kind == "function_call":
            if not _is_open(turns):
                turns.append({"role": "assistant"})
            turns[-1].setdefault("tool_calls", []).append(_call(item))
        elif kind == "function_call_output":
            answer = {"role": "tool", "content": item.get("output")}
            turns.append(answer | {"tool_call_id": item.get("call_id")})
        else:
            raise Unscorable(f"the rollout has an item of type {kind}, which has no text")
    return [
        turn for turn in turns if any(turn[name] is not None for name in turn.keys() - {"role"})
    ]


def _is_open(turns: Sequence[Mapping[str, Any]], *closing: str) -> bool:
    """Whether the last turn is the assistant's and has none of the fields that end it."""
    return bool(turns) and turns[-1]["role"] == "assistant" and not turns[-1].keys() & {*closing}


def _thought(item: Mapping[str, Any]) -> str:
    """What the item says: the thoughts themselves, or else their summary."""
    parts = item.get("content") or item.get("summary") or ()
    return "\n".join(part["text"] for part in parts)


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    named = {"id": item["call_id"]} if item.get("call_id") else {}
    return named | {"type": "function", "function": function}


def chat_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in the chat API's form, whose fields the responses API has on the tool itself."""
    if tool.get("type") != "function" or "function" in tool:
        return dict(tool)
    names = ("name", "description", "parameters", "strict")
    function = {name: tool[name] for name in names if tool.get(name) is not None}
    return {"type": "function", "function": function}
