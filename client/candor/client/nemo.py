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

from typing import Any

from candor.client.rows import RewardServer, Unscorable


async def gym_reward(body: Any, *, server: RewardServer | None = None) -> dict[str, float]:
    """`reward` (penalised), `base_reward` (R), `penalty` and `probe_NAME` (S) of the last assistant
    message. The messages before it are its context; reasoning is left out. S is the number that the
    adapter for TRL logs as `candor/score/NAME`.

    Args:
        body: a `BaseVerifyRequest`.
        server: the server to ask; None is the environment's.

    Raises:
        Unscorable: the rollout has tool calls.
        ClientError: the message could not be scored.
        ValueError: no URL.
    """
    parameters = body.responses_create_params.model_dump()
    given = parameters["input"]
    turns = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    if parameters.get("instructions"):
        turns.insert(0, {"role": "system", "content": parameters["instructions"]})
    turns += body.response.model_dump()["output"]
    turns = [turn for turn in turns if turn.get("type") != "reasoning"]
    for turn in turns:
        if "role" not in turn:
            raise Unscorable(f"the rollout has a {turn.get('type')}, which has no text")
    turns = [{name: turn.get(name) for name in ("role", "content")} for turn in turns]
    scored = await (server or RewardServer.of_environment()).reward(turns[:-1], turns[-1])
    numbers = {
        "reward": scored.reward,
        "base_reward": scored.base_reward,
        "penalty": scored.penalty,
    }
    return numbers | {f"probe_{name}": reading.score for name, reading in scored.probes.items()}
