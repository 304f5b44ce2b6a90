"""`candor score`: rewards of sampled responses, one request per row, so that a prompt's responses
are scored together.

    {"key", "messages", "responses", ...}  ->  the same + "reward_model" + "scores"

Rows come in every form that `candor.jobs.formats` reads. "scores" holds one entry per response, in
order. The responses of a preference pair are the chosen text with "chosen": true and the rejected
text with "chosen": false. "reward_model" names the reward model and the parts of the reward's
formula that the numbers do not show: how penalties combine, and which strengths were asked for.

Where a response cannot be scored (no text, not Unicode, too long, a score that is not finite), its
entry in "scores" is {"error": {"type", "message"}}, never a number, and the rest of the row is
scored without it. Such a row is done and not tried again. A row without any response that can be
scored is written with an error and without scores. Scores of another model, other probes or other
penalties are never mixed with earlier scores: such rows are done again.

`--tokens` stores each probe's logit of every response token too, as "tokens" of the entry: [{"id",
"start", "end", "probes"}], start and end in characters of the response. Where the chat template
rewrites a response, the server cannot say which characters a token is, and the row is scored
without them.

`--empty-response score` scores a response without text too: R of the empty turn, and no penalty.
Its entry has "warnings", [{"type": "empty_response", "message"}], as has every entry that the
server scored with a reservation.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Container, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from candor.client.errors import ClientError, InvalidArguments, RewardError
from candor.client.retry import Retry, shown
from candor.client.reward import AsyncRewardClient
from candor.client.rows import (
    TEMPLATE_REFUSED,
    Unscorable,
    context_item,
    score_item,
    unicode_text,
)
from candor.client.schema import RewardResponse
from candor.client.wire import EmptyResponse
from candor.flags import RewardUrl, UsageError, read_server_key
from candor.jobs.rollouts.strengths import (
    ClosedFormOption,
    KappaOption,
    LambdaOption,
    Penalties,
    parse_penalties,
)
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import Row, read_input
from candor.jobs.running.rows import Job, RowFailed, check_paths, run_job
from candor.probes.sources.tables import objects

TEXT_OF_TOKENS = {"tokens": {"__all__": {"text"}}}
"""A token's text is that of its characters in the response."""
NO_RESPONSES = "no_responses"
EMPTY_RESPONSE = "empty_response"
"""The server's name for a response without a token. An empty text is sent to it only where it is to
be scored."""


@Parameter(name="*")
@dataclass(frozen=True)
class ScoreOptions:
    """The options of `candor score`."""

    rollouts: Path
    """Rows of prompts with responses, such as {"messages", "responses": [text, ...]} or TRL's
    {"prompt", "chosen", "rejected"}: a file (.jsonl, .json, .csv, .parquet, also .gz and .zst) or
    hf:org/name:split. docs/formats.md lists the forms."""
    _: KW_ONLY
    out: Path
    """JSONL to write: the same rows with "scores"."""
    reward_url: RewardUrl
    """Address of the Candor server."""
    api_key_file: Path | None = None
    """File that holds the server's API key. Default: the key in CANDOR_API_KEY."""
    concurrency: int = 8
    """Rows that are scored at the same time."""
    penalty: LambdaOption = None
    kappa: KappaOption = None
    closed_form: ClosedFormOption = None
    empty_response: EmptyResponse = "error"
    """A response without text: `error` leaves it out, `score` gives the R of the empty turn and no
    penalty."""
    tokens: Annotated[bool, Parameter(negative="")] = False
    """Store each probe's logit of every response token too. The heat maps of `candor inspect` need
    them. The output is many times as large."""
    timeout_s: float = 120.0
    """Longest wait for the scores of one row, in seconds."""
    retry_budget_s: float = 300.0
    """How long the server may be unreachable before the job stops, in seconds."""


def refuse_prompts(path: Path, rows: Sequence[Row]) -> None:
    """Raises UsageError where no row has responses, before the server is asked for anything."""
    if not any("responses" in row or "error" in row for row in rows):
        raise UsageError(
            f"{path}: none of {len(rows)} rows has responses: sample some with candor generate, or "
            "give rows with 'responses', 'completion', or 'chosen' and 'rejected'"
        )


@command
def score(options: ScoreOptions) -> Exit:
    """Score every response. After a kill or an interrupt, the same command continues."""
    return asyncio.run(_score(options))


async def _score(options: ScoreOptions) -> Exit:
    check_paths(options.rollouts, options.out)
    penalties = parse_penalties(options.penalty, options.kappa, options.closed_form)
    rows = read_input(options.rollouts)
    refuse_prompts(options.rollouts, rows)
    async with _client(options) as client:

        async def rate(row: Row) -> Row:
            return await _scores(client, row, penalties, options)

        # Only a choice that is not the default is stored: earlier outputs stay valid.
        chosen: dict[str, Any] = {}
        if options.empty_response != "error":
            chosen["empty_response"] = options.empty_response
        if options.tokens:
            chosen["tokens"] = True
        job = Job(
            command="score",
            source=options.rollouts,
            rows=rows,
            out=options.out,
            settings={"penalties": penalties, **chosen},
            server=await _description(client),
            concurrency=options.concurrency,
            notes={"reward_url": shown(options.reward_url), "concurrency": options.concurrency},
        )
        status = await run_job(job, rate)
    if status is not Exit.INTERRUPTED:
        _say_failed_responses(options.out)
    return status


async def _scores(
    client: AsyncRewardClient, row: Row, penalties: Penalties, options: ScoreOptions
) -> Row:
    """The fields that scoring adds to a row.

    Raises:
        RowFailed: no response of the row can be sent.
        ClientError: no response of the row can be scored, or the server cannot be asked.
    """
    responses = _responses(row)
    item = _context(row)
    texts, errors = _texts(responses, options.empty_response)
    if len(errors) == len(texts):
        first = errors[0] if errors else {"type": NO_RESPONSES, "message": "the list is empty"}
        raise RowFailed(first["type"], f"no response can be scored; the first: {first['message']}")
    ask = partial(
        score_item,
        client,
        item,
        texts,
        penalties,
        empty_response=options.empty_response,
        unsent=errors,
    )
    try:
        reply, failed = await ask(include=("tokens",) if options.tokens else ())
        if options.tokens and any(_is_refused_by_template(error) for error in failed.values()):
            reply, failed = await ask()
    except InvalidArguments as error:
        raise RowFailed("invalid_row", str(error)) from None
    if reply is None:
        raise list(failed.values())[-1]
    errors |= {n: {"type": error.type, "message": str(error)} for n, error in failed.items()}
    warnings = _warnings(reply, texts, errors)
    scored = iter(reply.results[0].responses)
    return {
        "responses": responses,
        "reward_model": reply.model.model_dump(exclude={"engine"}) | {"penalties": penalties},
        "scores": [
            {"error": errors[place]}
            if place in errors
            else next(scored).model_dump(by_alias=True, exclude=TEXT_OF_TOKENS, exclude_none=True)
            | ({"warnings": warnings[place]} if place in warnings else {})
            for place in range(len(texts))
        ],
    }


def _is_refused_by_template(error: ClientError) -> bool:
    """Whether the reward model's template is the reason, which may only be so with tokens."""
    return isinstance(error, RewardError) and error.type == TEMPLATE_REFUSED


def _warnings(
    reply: RewardResponse, texts: Sequence[str], errors: Container[int]
) -> dict[int, list[Row]]:
    """What the server says about responses, by their place in the row. It names the first response
    of each warning only; an empty text is known to be one all the same."""
    sent = [place for place in range(len(texts)) if place not in errors]
    found: dict[int, list[Row]] = {}
    for warning in reply.warnings:
        places = {sent[warning.response]}
        if warning.type == EMPTY_RESPONSE:
            places |= {place for place in sent if not texts[place]}
        for place in places:
            said = {"type": warning.type, "message": warning.message}
            found.setdefault(place, []).append(said)
    return found


def _context(row: Row) -> Row:
    """The row's context, as on the wire.

    Raises:
        RowFailed: the row does not have exactly one context, or one that cannot be sent.
    """
    given = [name for name in ("messages", "prompt") if row.get(name) is not None]
    if len(given) != 1:
        raise RowFailed("invalid_row", "give exactly one of 'messages' and 'prompt'")
    if (given[0] == "prompt") != isinstance(row[given[0]], str):
        raise RowFailed("invalid_row", "'prompt' is a text, and 'messages' a list of messages")
    try:
        others = {name: row[name] for name in ("tools", "templated") if name in row}
        return context_item(row[given[0]]) | others
    except Unscorable as error:
        raise RowFailed("invalid_row", error.message) from None


def _texts(
    responses: Sequence[Any], empty_response: EmptyResponse
) -> tuple[list[str], dict[int, Row]]:
    """The text of each response, and by index the error of each that cannot be sent."""
    texts: list[str] = []
    errors: dict[int, Row] = {}
    for place, response in enumerate(responses):
        text = response.get("text") if isinstance(response, dict) else None
        if not isinstance(text, str):
            message = "every response must be an object with a 'text'"
            errors[place] = {"type": "invalid_row", "message": message}
        elif not text and empty_response == "error":
            errors[place] = {"type": EMPTY_RESPONSE, "message": "the response is empty"}
        else:
            try:
                unicode_text(text, "the response")
            except Unscorable as error:
                errors[place] = {"type": error.type, "message": error.message}
        texts.append(text if place not in errors and isinstance(text, str) else "")
    return texts, errors


def _responses(row: Row) -> list[Any]:
    """The row's responses.

    Raises:
        RowFailed: the row has none, or failed before.
    """
    if "error" in row:
        error = row["error"] if isinstance(row["error"], dict) else {}
        reason = f"the row failed before: {error.get('message', 'see its error')}"
        raise RowFailed(NO_RESPONSES, reason)
    if not isinstance(responses := row.get("responses"), list):
        raise RowFailed(NO_RESPONSES, "the row has no responses")
    return responses


def _say_failed_responses(out: Path) -> None:
    """Say on stderr how many responses of scored rows have an error, earlier runs' included."""
    rows = (row for _, row in objects(out))
    scores = (score for row in rows if "error" not in row for score in row["scores"])
    failed = sum("error" in score for score in scores)
    if failed:
        print(
            f"candor: {failed} responses of scored rows could not be scored "
            "(see their 'error' in 'scores')",
            file=sys.stderr,
        )


async def _description(client: AsyncRewardClient) -> dict[str, Any]:
    """The server's models and probes, without the fields that change at every start."""
    models = (await client.models()).get("data") or []
    stable = [
        {name: value for name, value in model.items() if name != "created"}
        for model in models
        if isinstance(model, dict)
    ]
    return {"models": stable, "probes": await client.probes()}


def _client(options: ScoreOptions) -> AsyncRewardClient:
    api_key = read_server_key("--api-key-file", options.api_key_file)
    retry = Retry(options.retry_budget_s)
    try:
        return AsyncRewardClient(
            options.reward_url, api_key=api_key, timeout_s=options.timeout_s, retry=retry
        )
    except ValueError as error:
        raise UsageError(f"--reward-url: {error}") from None
