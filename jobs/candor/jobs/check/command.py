"""`candor check --trainer NAME URL`: what this trainer would see of this server, before a run.

A trainer that takes a URL is stood in for by its recorded requests: they are sent as the trainer
sends them, without a key that the URL does not hold, and the answers are read as the trainer reads
them. A trainer that takes a Python function gets the adapter's own call. Each reward is held
against `POST /v1/rewards` for the same conversation.

Not here: the trainer itself, its retries, and its load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2
from cyclopts import Parameter

from candor.client.errors import ClientError
from candor.client.retry import NO_ANSWER, Retry, error_of, http_url, timeout, unreachable
from candor.client.reward import AsyncRewardClient
from candor.client.rows import RewardServer
from candor.client.schema import ResponseReward
from candor.flags import UsageError, read_key_file
from candor.jobs.check.adapters import ADAPTERS, ITEM
from candor.jobs.check.readers import READERS, Unreadable
from candor.jobs.check.recorded import TRAINERS, Recorded, recorded, recorded_of
from candor.jobs.running.exits import Exit, command

Trainer = Literal[
    "openrlhf", "trl", "verl", "slime", "miles", "align-anything", "llama-factory", "verifiers",
    "nemo", "vllm", "sglang", "tei", "infinity", "openai",
]  # fmt: skip

TIMEOUT_S = 60.0
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
"""By the server's dtype, the allowed difference as a share of |reward| + 1: rounding depends on the
batch."""
UNAUTHORIZED = 401
CHATML = (
    "the recorded text is in ChatML, the template of Qwen and SmolLM2; where the policy's template "
    "is the reward model's own, the trainer sends other text than this"
)


@Parameter(name="*")
@dataclass(frozen=True)
class CheckOptions:
    """The options of `candor check`."""

    url: str
    """Address of the server, as the trainer is given it: with the key in it, if it belongs there
    (http://any:KEY@reward-host:8000). The route may be left out."""
    _: KW_ONLY
    trainer: Trainer
    """The trainer, or the server whose clients are meant."""
    api_key_file: Path | None = None
    """File that holds the server's API key, for the adapters and for the comparison. Default: the
    key in CANDOR_API_KEY."""


@dataclass(frozen=True)
class Finding:
    """What the trainer sees of one exchange.

    Attributes:
        about: the trainer's version and the route.
        seen: what it reads.
        fault: why it cannot use the answer; None if all is well.
        newest: whether this is what the newest recorded version does.
    """

    about: str
    seen: str
    fault: str | None
    newest: bool = True


@command
def check(options: CheckOptions) -> Exit:
    """Send a trainer's own requests to a server, and say what the trainer would see."""
    url = server_url(options.url)
    api_key = read_key_file("--api-key-file", options.api_key_file)
    findings = asyncio.run(_findings(options.trainer, url, api_key))
    for finding in findings:
        print(f"{'ok  ' if finding.fault is None else 'FAIL'}  {finding.about}")
        for line in (finding.seen, finding.fault):
            if line:
                print(f"        {line}")
    failed = [one for one in findings if one.fault is not None]
    fatal = [one for one in failed if one.newest]
    if not failed:
        print(f"{options.trainer} can use this server.")
    elif fatal:
        print(f"{options.trainer} cannot use this server as it is: see FAIL above.")
    else:
        print(f"{options.trainer} can use this server in its newest version; see FAIL for others.")
    return Exit.ROWS_FAILED if fatal else Exit.DONE


def server_url(given: str) -> str:
    """The server's address without a route, which trainers' settings often end in.

    Raises:
        UsageError: it is no address.
    """
    try:
        url = http_url(given)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for path in sorted({one.path for one in recorded()}, key=len, reverse=True):
        url = url.removesuffix(path)
    return url


async def _findings(trainer: str, url: str, api_key: str | None) -> list[Finding]:
    """Every exchange of the trainer.

    Raises:
        ClientError: the server does not answer, is not ready, or is not Candor.
    """
    async with AsyncRewardClient(
        url, api_key=api_key, timeout_s=TIMEOUT_S, retry=Retry(0.0)
    ) as client:
        await client.identify()
        dtype = str((await client.models())["data"][0].get("dtype"))
        found = []
        if trainer in ADAPTERS:
            expected = await _expected(client, [ITEM])
            server = RewardServer(url, api_key=api_key, timeout_s=TIMEOUT_S, patience_s=0.0)
            found.append(await _adapter(trainer, server, expected, dtype))
        bodies = recorded_of(trainer) if trainer in TRAINERS else []
        newest = bodies[0].release if bodies else ()
        async with httpx2.AsyncClient(base_url=url, timeout=timeout(TIMEOUT_S)) as http:
            for one in bodies:
                if one.has_token_ids:
                    continue
                found.append(await _exchange(http, client, one, dtype, one.release == newest))
    return found


async def _expected(
    client: AsyncRewardClient, items: Sequence[Mapping[str, Any]]
) -> list[ResponseReward]:
    if not items:
        return []
    reply = await client.rewards(items)
    return [one for result in reply.results for one in result.responses]


async def _adapter(
    trainer: str, server: RewardServer, expected: Sequence[ResponseReward], dtype: str
) -> Finding:
    about, call = ADAPTERS[trainer]
    try:
        rewards, metrics = await call(server)
    except (ClientError, ValueError) as error:
        return Finding(about, "", f"the adapter raises {type(error).__name__}: {error}")
    named = ", ".join(metrics) or "none"
    seen, fault = _compared(rewards, expected, dtype)
    return Finding(about, f"{seen}; metrics: {named}", fault)


async def _exchange(
    http: httpx2.AsyncClient, client: AsyncRewardClient, one: Recorded, dtype: str, newest: bool
) -> Finding:
    """One recorded body, sent and read."""
    about = f"{one.trainer} {one.versions}: POST {one.path} ({one.note})"
    request = http.build_request("POST", one.path, json=one.body)
    try:
        response = await http.send(request)
    except NO_ANSWER as error:
        raise unreachable(request, error) from None
    if not response.is_success:
        fault = f"the trainer sees an error: {error_of(response)}"
        if response.status_code == UNAUTHORIZED:
            fault += "; write the key into the URL: http://any:KEY@HOST:PORT"
        elif "<|im_start|>" in str(one.body):
            fault += f" ({CHATML})"
        return Finding(about, f"status {response.status_code}", fault, newest)
    try:
        rewards = READERS[one.client](response.json(), one.body)
    except Unreadable as error:
        return Finding(about, f"status {response.status_code}", str(error), newest)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        fault = f"the answer has another form: {type(error).__name__}: {error}"
        return Finding(about, f"status {response.status_code}", fault, newest)
    seen, fault = _compared(rewards, await _expected(client, one.items), dtype)
    warned = response.headers.get("x-candor-warnings")
    return Finding(about, seen + (f"; warnings: {warned}" if warned else ""), fault, newest)


def _compared(
    rewards: Sequence[float], expected: Sequence[ResponseReward], dtype: str
) -> tuple[str, str | None]:
    """The rewards in words, and what is wrong with them."""
    if not expected and not rewards:
        return "an empty list, as it was asked for", None
    shown = ", ".join(f"{reward:.4f}" for reward in rewards)
    if len(rewards) != len(expected):
        return f"rewards {shown}", f"{len(expected)} responses were sent"
    if _near(rewards, [one.reward for one in expected], dtype):
        return f"rewards {shown}: those of /v1/rewards", None
    if _near(rewards, [one.base_reward for one in expected], dtype):
        return f"rewards {shown}: R of /v1/rewards, without the penalty", None
    others = ", ".join(f"{one.reward:.4f}" for one in expected)
    return f"rewards {shown}", f"/v1/rewards gives {others} for the same conversation"


def _near(rewards: Sequence[float], others: Sequence[float], dtype: str) -> bool:
    allowed = TOLERANCE.get(dtype, 0.1)
    return all(_differs(*pair) <= allowed for pair in zip(rewards, others, strict=True))


def _differs(reward: float, other: float) -> float:
    """The difference as a share of |other| + 1; infinite where one of them is no number."""
    difference = abs(reward - other) / (abs(other) + 1)
    return difference if difference == difference else float("inf")
