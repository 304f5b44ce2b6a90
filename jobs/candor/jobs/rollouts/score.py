"""`candor score`: rewards of drawn candidates, one request a row, so that a prompt goes with its
group.

    {"key", "messages", "responses", ...}  ->  the same + "reward_model" + "scores", one a response,
    in order

A preference pair, {"key", "messages", "chosen", "rejected"}, gains as its "responses" the chosen
text with "chosen": true and the rejected one with "chosen": false. "reward_model" says who scored
and what of the reward's formula cannot be seen in the numbers: how penalties combine, and which
strengths were asked for.

A response that the server refuses for good (no text, too long, a score that is not finite) has
`{"error": {"type", "message"}}` in its place in "scores", never a number, and the rest of its row
is scored without it; such a row is done, and not tried again. A row of which nothing can be scored
is written with its error and without scores. Scores from another model, other probes or other
penalties are never mixed with earlier ones: such rows are done anew.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from candor.client.retry import Retry
from candor.client.reward import AsyncRewardClient
from candor.client.rows import score_item
from candor.client.wire import describe_first_error
from candor.jobs.rollouts.strengths import Penalties, parse_penalties
from candor.jobs.running.exits import Exit, UsageError, exit_code
from candor.jobs.running.files import Row, read_rows
from candor.jobs.running.rows import (
    Job,
    RowFailed,
    check_paths,
    read_api_key,
    run_job,
)

EMPTY_RESPONSE = "empty_response"
"""The server's name for a response without a token; "" needs no server to be one."""


def score(
    *,
    rollouts: Path,
    out: Path,
    reward_url: str,
    api_key_file: Path | None = None,
    concurrency: int = 8,
    penalty: list[str] | None = None,
    kappa: list[str] | None = None,
    closed_form: list[str] | None = None,
    timeout_s: float = 120.0,
    retry_budget_s: float = 300.0,
) -> int:
    """Score every candidate of every row. Killed or interrupted, the same command goes on.

    Parameters
    ----------
    rollouts
        JSONL of {"key", "messages", "responses": [{"text"}]}, or of pairs: {"key", "messages",
        "chosen": text, "rejected": text}.
    out
        JSONL of the same rows with "scores".
    reward_url
        The Candor server.
    api_key_file
        File with the server's key.
    concurrency
        Rows asked for at a time.
    penalty
        NAME=LAMBDA in place of the served strength; may be repeated.
    kappa
        NAME=KAPPA: lambda in standard deviations, from the served card's calibration.
    closed_form
        NAME=BETA or NAME=BETA:THRESHOLD: lambda of each row's own candidates.
    timeout_s
        Longest wait for one row, in seconds.
    retry_budget_s
        How long the server may stay away before the job stops, in seconds.
    """

    async def run() -> Exit:
        check_paths(rollouts, out)
        penalties = parse_penalties(penalty or (), kappa or (), closed_form or ())
        rows = read_rows(rollouts)
        async with _client(reward_url, api_key_file, timeout_s, retry_budget_s) as client:

            async def rate(row: Row) -> Row:
                return await _scores(client, row, penalties)

            job = Job(
                command="score",
                source=rollouts,
                rows=rows,
                out=out,
                settings={"penalties": penalties},
                server=await _served(client),
                concurrency=concurrency,
                notes={"reward_url": reward_url, "concurrency": concurrency},
            )
            ended = await run_job(job, rate)
        if ended is not Exit.INTERRUPTED:
            _say_failed_responses(out)
        return ended

    return exit_code(lambda: asyncio.run(run()))


async def _scores(client: AsyncRewardClient, row: Row, penalties: Penalties) -> Row:
    responses = _responses(row)
    item: Row = {name: row[name] for name in ("messages", "prompt") if name in row}
    try:
        texts = [response["text"] for response in responses]
        empty = [place for place, text in enumerate(texts) if text == ""]
        if texts and len(empty) == len(texts):
            raise RowFailed(EMPTY_RESPONSE, "every response is empty")
        reply, failed = await score_item(client, item, texts, penalties, unsent=empty)
    except ValidationError as error:
        raise RowFailed("invalid_row", describe_first_error(error)) from None
    except (KeyError, TypeError):
        raise RowFailed("invalid_row", "every response must be an object with a 'text'") from None
    if reply is None:
        raise list(failed.values())[-1]
    errors = {place: {"type": error.type, "message": str(error)} for place, error in failed.items()}
    errors |= {n: {"type": EMPTY_RESPONSE, "message": "the response is empty"} for n in empty}
    scored = iter(reply.results[0].responses)
    return {
        "responses": responses,
        "reward_model": reply.model.model_dump(exclude={"engine"}) | {"penalties": penalties},
        "scores": [
            {"error": errors[place]}
            if place in errors
            else next(scored).model_dump(by_alias=True, exclude={"tokens"})
            for place in range(len(texts))
        ],
    }


def _responses(row: Row) -> list[Any]:
    """The row's responses, made of a pair where it is one.

    Raises:
        RowFailed: it has none.
    """
    if "error" not in row and isinstance(responses := row.get("responses"), list):
        return responses
    if "error" in row or "chosen" not in row or "rejected" not in row:
        raise RowFailed("no_responses", "this row came without responses")
    return [
        {"text": row["chosen"], "chosen": True},
        {"text": row["rejected"], "chosen": False},
    ]


def _say_failed_responses(out: Path) -> None:
    """How many there are in all rows with scores, those of earlier runs too."""
    with out.open("rb") as file:
        rows = (orjson.loads(line) for line in file)
        scores = (row["scores"] for row in rows if "error" not in row)
        failed = sum("error" in one for ones in scores for one in ones)
    if failed:
        print(
            f"candor: {failed} responses of scored rows could not be scored "
            "(see their 'error' in 'scores')",
            file=sys.stderr,
        )


async def _served(client: AsyncRewardClient) -> dict[str, Any]:
    """Model and probes as the server tells them, without what changes at every start."""
    models = (await client.models()).get("data") or []
    stable = [
        {name: value for name, value in model.items() if name != "created"}
        for model in models
        if isinstance(model, dict)
    ]
    return {"models": stable, "probes": await client.probes()}


def _client(
    url: str, api_key_file: Path | None, timeout_s: float, retry_budget_s: float
) -> AsyncRewardClient:
    try:
        return AsyncRewardClient(
            url,
            api_key=read_api_key(api_key_file),
            timeout_s=timeout_s,
            retry=Retry(budget_s=retry_budget_s),
        )
    except ValueError as error:
        raise UsageError(f"--reward-url: {error}") from None
