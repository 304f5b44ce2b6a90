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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from candor.client.errors import PermanentError
from candor.client.retry import Retry
from candor.client.reward import AsyncRewardClient
from candor.client.schema import RewardResponse
from candor.jobs.rollouts.strengths import Penalties, parse_penalties
from candor.jobs.running.exits import Exit, JobStopped, exit_code
from candor.jobs.running.files import Row, read_rows
from candor.jobs.running.rows import (
    ROW_STATUSES,
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
        reply, failed = await _reply(client, item, texts, penalties)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        raise RowFailed("invalid_row", f"{fault['loc']}: {fault['msg']}") from None
    except (KeyError, TypeError):
        raise RowFailed("invalid_row", "every response must be an object with a 'text'") from None
    scored = iter(reply.results[0].responses)
    return {
        "responses": responses,
        "reward_model": reply.model.model_dump(exclude={"engine"}) | {"penalties": penalties},
        "scores": [
            failed[place]
            if place in failed
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


async def _reply(
    client: AsyncRewardClient, item: Row, texts: Sequence[str], penalties: Penalties
) -> tuple[RewardResponse, dict[int, Row]]:
    """The reply for what can be scored, and by its place what each other response has instead.

    The server answers a request whole or not at all, so it is asked again without each response
    that it names: at most one request a response.

    Raises:
        RowFailed: every text is empty.
        ClientError: nothing to score is left (the last response's error), or it blames no response.
    """
    empty = _error(EMPTY_RESPONSE, "the response is empty; there is nothing to score")
    failed = {place: empty for place, text in enumerate(texts) if text == ""}
    if texts and len(failed) == len(texts):
        raise RowFailed(EMPTY_RESPONSE, "every response is empty")
    while True:
        places = [place for place in range(len(texts)) if place not in failed]
        asked = [texts[place] for place in places]
        try:
            return await client.rewards([{**item, "responses": asked}], penalties), failed
        except PermanentError as error:
            number = -1 if error.response is None else error.response
            if error.status not in ROW_STATUSES or not 0 <= number < len(asked):
                raise
            error.response = places[number]  # the row's own count, for whoever reads the message
            failed[places[number]] = _error(error.type, str(error))
            if len(asked) == 1:
                raise


def _error(type: str, message: str) -> Row:
    return {"error": {"type": type, "message": message}}


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
        raise JobStopped(Exit.USAGE, f"--reward-url: {error}") from None
