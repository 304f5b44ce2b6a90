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
from candor.client.rows import RewardServer, close
from candor.client.schema import ResponseReward
from candor.flags import RewardUrl, UsageError, read_server_key
from candor.jobs.check.adapters import ADAPTERS, ITEM
from candor.jobs.check.readers import READERS, Unreadable
from candor.jobs.check.recorded import TRAINERS, Recorded, recorded, recorded_of
from candor.jobs.running.exits import Exit, command

Trainer = Literal[
    "openrlhf", "trl", "verl", "slime", "miles", "align-anything", "llama-factory", "verifiers",
    "nemo", "vllm", "sglang", "tei", "infinity", "openai",
]  # fmt: skip

TIMEOUT_S = 60.0
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.02, "float16": 5e-3}
"""By the server's dtype, the allowed difference as a share of |reward| + 1: rounding depends on the
batch."""
UNAUTHORIZED = 401
MAX_SHOWN = 4
"""Rewards of one answer that are printed."""
OTHER_TEMPLATE = "--turn-marker"
"""The server's refusal of a text in another template says to give this flag."""
NOT_TOLD = (
    "the recorded text is in ChatML, the template of Qwen and SmolLM2, and the reward model's "
    "template is another: a policy with the reward model's own template sends other text than this"
)
Verdict = Literal["ok", "FAIL", "?"]


@Parameter(name="*")
@dataclass(frozen=True)
class CheckOptions:
    """The options of `candor check`."""

    url: RewardUrl
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
        lines: what it reads, and what is wrong with that.
        verdict: whether it can use the answer; ? where these texts do not tell.
        newest: whether this is what the newest recorded version does.
    """

    about: str
    lines: tuple[str, ...]
    verdict: Verdict
    newest: bool = True


@command
def check(options: CheckOptions) -> Exit:
    """Send a trainer's own requests to a server, and say what the trainer would see."""
    url = server_url(options.url)
    api_key = read_server_key("--api-key-file", options.api_key_file)
    findings = asyncio.run(_findings(options.trainer, url, api_key))
    for finding in findings:
        print(f"{finding.verdict:<6}{finding.about}")
        for line in finding.lines:
            print(f"      {line}")
    newest = {finding.verdict for finding in findings if finding.newest}
    everything = {finding.verdict for finding in findings}
    if "FAIL" in newest:
        print(f"{options.trainer} cannot use this server as it is: see FAIL above.")
    elif newest == {"?"}:
        print(f"Whether {options.trainer} can use this server cannot be told: see ? above.")
    elif "FAIL" in everything:
        print(f"{options.trainer} can use this server in its newest version; see FAIL for others.")
    else:
        print(f"{options.trainer} can use this server.")
    return Exit.DONE if "ok" in newest and "FAIL" not in newest else Exit.ROWS_FAILED


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
            try:
                found.append(await _adapter(trainer, server, expected, dtype))
            finally:
                await close()
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
        return Finding(about, (f"the adapter raises {type(error).__name__}: {error}",), "FAIL")
    agreed = _agreement(rewards, expected, dtype)
    logged = f"metrics: {', '.join(metrics) or 'none'}"
    if agreed is None:
        return Finding(about, (_rewards(rewards), _disagreement(expected), logged), "FAIL")
    return Finding(about, (f"{_rewards(rewards)}: {agreed}", logged), "ok")


async def _exchange(
    http: httpx2.AsyncClient, client: AsyncRewardClient, one: Recorded, dtype: str, newest: bool
) -> Finding:
    """One recorded body, sent and read."""
    about = f"{one.trainer} {one.versions}: POST {one.path}" + (f" ({one.note})" * bool(one.note))
    request = http.build_request("POST", one.path, json=one.sent_body)
    try:
        response = await http.send(request)
    except NO_ANSWER as error:
        raise unreachable(request, error) from None
    if not response.is_success:
        return Finding(about, *_refusal(one, response), newest)
    try:
        rewards = READERS[one.client](response.json(), one.sent_body)
    except Unreadable as error:
        return Finding(about, (str(error),), "FAIL", newest)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        said = f"the answer has another form: {type(error).__name__}: {error}"
        return Finding(about, (said,), "FAIL", newest)
    warned = response.headers.get("x-candor-warnings")
    warnings = (f"warnings: {warned}",) if warned else ()
    if not one.items and not rewards:
        return Finding(about, ("an empty list, as it was asked for", *warnings), "ok", newest)
    expected = await _expected(client, one.sent_items)
    agreed = _agreement(rewards, expected, dtype)
    if agreed is None:
        lines = (_rewards(rewards), _disagreement(expected), *warnings)
        return Finding(about, lines, "FAIL", newest)
    return Finding(about, (f"{_rewards(rewards)}: {agreed}", *warnings), "ok", newest)


def _refusal(one: Recorded, response: httpx2.Response) -> tuple[tuple[str, ...], Verdict]:
    """What an error means for the trainer."""
    said = f"the trainer sees an error: {error_of(response)}"
    if response.status_code == UNAUTHORIZED:
        return (said, "write the key into the URL: http://any:KEY@HOST:PORT"), "FAIL"
    if one.is_templated and OTHER_TEMPLATE in said:
        return (said, NOT_TOLD), "?"
    return (said,), "FAIL"


def _agreement(
    rewards: Sequence[float], expected: Sequence[ResponseReward], dtype: str
) -> str | None:
    """What the rewards are equal to; None for nothing."""
    if len(rewards) != len(expected):
        return None
    if _near(rewards, [one.reward for one in expected], dtype):
        return "those of /v1/rewards"
    if _near(rewards, [one.base_reward for one in expected], dtype):
        return "R of /v1/rewards, without the penalty"
    return None


def _rewards(rewards: Sequence[float]) -> str:
    shown = ", ".join(f"{reward:.4f}" for reward in rewards[:MAX_SHOWN])
    more = f" and {len(rewards) - MAX_SHOWN} more" if len(rewards) > MAX_SHOWN else ""
    return f"rewards {shown}{more}"


def _disagreement(expected: Sequence[ResponseReward]) -> str:
    others = _rewards([one.reward for one in expected])
    return f"/v1/rewards: {others} for the same conversations"


def _near(rewards: Sequence[float], others: Sequence[float], dtype: str) -> bool:
    allowed = TOLERANCE.get(dtype, 0.02)
    return all(_differs(*pair) <= allowed for pair in zip(rewards, others, strict=True))


def _differs(reward: float, other: float) -> float:
    """The difference as a share of |other| + 1; infinite where one of them is no number."""
    difference = abs(reward - other) / (abs(other) + 1)
    return difference if difference == difference else float("inf")
