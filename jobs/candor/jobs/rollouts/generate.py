"""`candor generate`: sample n responses per prompt from an OpenAI-compatible server.

    {"key", "messages", "meta"}  ->  the same + "model" + "responses": [{"text", "finish_reason"}]

A row's seed follows from `--seed` and the row's key alone, so neither the order of the rows, nor
the concurrency, nor a restart changes a request. Whether the same seed gives the same text again
depends on the server: an engine that batches may round differently.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from candor.client.generator import AsyncGeneratorClient
from candor.client.retry import Retry
from candor.client.rows import Unscorable, context_item
from candor.flags import UsageError, read_key_file
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import Row, read_input
from candor.jobs.running.rows import Job, RowFailed, check_paths, run_job

TOP_P = 1.0
"""Sent with every request: no token is cut from the model's distribution."""


@Parameter(name="*")
@dataclass(frozen=True)
class GenerateOptions:
    """The options of `candor generate`."""

    prompts: Path
    """Rows of prompts, such as {"messages"} or TRL's {"prompt"}: a file (.jsonl, .json, .csv,
    .parquet, also .gz and .zst) or hf:org/name:split. docs/formats.md lists the forms; responses
    that the rows have are replaced."""
    _: KW_ONLY
    out: Path
    """JSONL to write: the same rows with "model" and "responses"."""
    generator_url: str
    """Address of an OpenAI-compatible chat server, such as vLLM."""
    generator_model: str
    """Name under which that server serves the model. A reply from another model is refused; a dated
    name of the same model (m-2026-01-01 for m) is accepted and recorded."""
    n: int = 16
    """Responses per prompt."""
    temperature: float = 0.8
    """Sampling temperature; top_p is always 1."""
    max_tokens: int = 64
    """Most tokens per response."""
    seed: int = 0
    """Seed of the run; each prompt's own seed is derived from it and the prompt's key."""
    response_prefix: str = ""
    """Text that every response begins with, and that is part of the response. A row's own
    "response_prefix" takes its place. The server must support vLLM's continue_final_message."""
    stop: Annotated[list[str] | None, Parameter(negative="")] = None
    """Text at which a response ends; it stays part of the response. The server must support vLLM's
    include_stop_str_in_output. May be repeated."""
    concurrency: int = 4
    """Prompts that are sampled at the same time."""
    api_key_file: Path | None = None
    """File that holds the server's API key."""
    timeout_s: float = 600.0
    """Longest wait for the responses to one prompt, in seconds."""
    retry_budget_s: float = 300.0
    """How long the server may be unreachable before the job stops, in seconds."""


@command
def generate(options: GenerateOptions) -> Exit:
    """Sample n responses per prompt. After a kill or an interrupt, the same command continues."""
    return asyncio.run(_generate(options))


async def _generate(options: GenerateOptions) -> Exit:
    check_paths(options.prompts, options.out)
    rows = read_input(options.prompts)
    settings: dict[str, Any] = {
        "n": options.n,
        "temperature": options.temperature,
        "top_p": TOP_P,
        "max_tokens": options.max_tokens,
        "seed": options.seed,
    }
    if options.response_prefix:  # else absent, as in rows drawn before the option existed
        settings["response_prefix"] = options.response_prefix
    if options.stop:
        settings["stop"] = options.stop
    client = open_generator(
        "--generator-url",
        options.generator_url,
        options.generator_model,
        read_key_file("--api-key-file", options.api_key_file),
        timeout_s=options.timeout_s,
        retry_budget_s=options.retry_budget_s,
    )
    job = Job(
        command="generate",
        source=options.prompts,
        rows=rows,
        out=options.out,
        settings=settings,
        server={"generator_model": options.generator_model},
        concurrency=options.concurrency,
        notes={"generator_url": options.generator_url, "concurrency": options.concurrency}
        | {"answered_by": client.answered_by},
    )
    async with client:

        async def sample(row: Row) -> Row:
            completions = await client.complete(
                messages_of(row),
                n=options.n,
                temperature=options.temperature,
                top_p=TOP_P,
                max_tokens=options.max_tokens,
                seed=row_seed(options.seed, row["key"]),
                prefix=prefix_of(row, options.response_prefix),
                stop=options.stop or (),
            )
            return {
                "model": completions[0].model if completions else client.model,
                "responses": [
                    {"text": one.text, "finish_reason": one.finish_reason} for one in completions
                ],
            }

        return await run_job(job, sample)


def prefix_of(row: Row, default: str) -> str:
    """The text that the row's responses begin with.

    Raises:
        RowFailed: the row's `response_prefix` is not a text.
    """
    prefix = row.get("response_prefix", default)
    if not isinstance(prefix, str):
        raise RowFailed("invalid_row", "response_prefix: must be a text")
    return prefix


def row_seed(seed: int, key: str) -> int:
    """A row's seed: 0 <= seed < 2**31, which every server's seed field takes."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def open_generator(
    flag: str, url: str, model: str, api_key: str | None, *, timeout_s: float, retry_budget_s: float
) -> AsyncGeneratorClient:
    """A client of the server at `url`, which was given by `flag`.

    Raises:
        UsageError: `url` is not an HTTP address.
    """
    try:
        return AsyncGeneratorClient(
            url, model=model, api_key=api_key, timeout_s=timeout_s, retry=Retry(retry_budget_s)
        )
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def messages_of(row: Row) -> list[Row]:
    """The row's messages.

    Raises:
        RowFailed: they are missing, or no server takes them; the message names the field.
    """
    if "messages" not in row and isinstance(row.get("error"), dict):  # as the reader found it
        raise RowFailed("invalid_row", str(row["error"].get("message")))
    try:
        if not row.get("messages") or isinstance(row["messages"], str):
            raise Unscorable("messages: must be a list of messages, at least one")
        messages: list[Row] = context_item(row["messages"])["messages"]
        return messages
    except Unscorable as error:
        raise RowFailed("invalid_row", error.message) from None
