"""NeMo Gym (and NeMo-RL through it): the reward of a resources server's `verify`.

    class Flattery(SimpleResourcesServer):
        async def verify(self, body: BaseVerifyRequest) -> BaseVerifyResponse:
            return BaseVerifyResponse(**body.model_dump() | await gym_reward(body))

The server's address and key are CANDOR_REWARD_URL and CANDOR_API_KEY. A rollout that cannot be
scored raises: the route answers 500 and the rollout fails; no number is made up.
Written against NVIDIA-NeMo/Gym 07d6b0d (August 2026), `base_resources_server.py`.

Not here: NeMo-RL's in-process `RewardModelEnvironment`, which is no remote call.
"""

from __future__ import annotations

from typing import Any

from candor.client.rows import RewardServer, Unscorable


async def gym_reward(body: Any, *, server: RewardServer | None = None) -> dict[str, float]:
    """`reward` (penalised), `base_reward` (R), `penalty` and `probe_<name>` (S) of the last
    assistant message of a `BaseVerifyRequest`; all before it is its context, reasoning left out.

    Raises:
        ClientError: it could not be scored; `Unscorable` where the rollout has tool calls.
        ValueError: no URL.
    """
    asked = body.responses_create_params.model_dump()
    said = asked["input"]
    turns = [{"role": "user", "content": said}] if isinstance(said, str) else list(said)
    if asked.get("instructions"):
        turns.insert(0, {"role": "system", "content": asked["instructions"]})
    turns += body.response.model_dump()["output"]
    turns = [turn for turn in turns if turn.get("type") != "reasoning"]
    for turn in turns:
        if "role" not in turn:
            raise Unscorable(f"the rollout has a {turn.get('type')}, which has no text")
    scored = await (server or RewardServer()).reward(turns[:-1], turns[-1])
    told = {"reward": scored.reward, "base_reward": scored.base_reward, "penalty": scored.penalty}
    return told | {f"probe_{name}": reading.score for name, reading in scored.probes.items()}
