"""`candor generate`: n samples a prompt from an OpenAI-form server, as rows to be scored.

    {"key", "messages", "meta"}  ->  {"key", "messages", "meta", "model", "responses": [{"text",
    "finish_reason"}]}

A row's seed comes from `--seed` and its key alone: neither order, nor concurrency, nor a restart
changes what is asked for. (Whether a seed gives the same text again is the server's: a batching
engine may round differently.)
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from candor.client.generator import AsyncGeneratorClient
from candor.client.retry import Retry
from candor.client.schema import Message
from candor.client.wire import describe_first_error
from candor.jobs.running.exits import Exit, UsageError, exit_code
from candor.jobs.running.files import Row, read_rows
from candor.jobs.running.rows import Job, check_paths, read_api_key, run_job

TOP_P = 1.0
"""Sent with every request: the samples are from the model's own distribution, tempered."""

_messages = TypeAdapter(Annotated[list[Message], Field(min_length=1)])


def generate(
    *,
    prompts: Path,
    out: Path,
    generator_url: str,
    generator_model: str,
    n: int = 16,
    temperature: float = 0.8,
    max_tokens: int = 64,
    seed: int = 0,
    response_prefix: str = "",
    concurrency: int = 4,
    api_key_file: Path | None = None,
    timeout_s: float = 600.0,
    retry_budget_s: float = 300.0,
) -> int:
    """Draw n candidates for every prompt. Killed or interrupted, the same command goes on.

    Parameters
    ----------
    prompts
        JSONL of {"key", "messages", "meta"}.
    out
        JSONL of the same rows with "model" and "responses".
    generator_url
        An OpenAI-form server, such as vLLM.
    generator_model
        The model's served name; another one is refused.
    n
        Candidates a prompt.
    temperature
        Sampling temperature; top_p is 1.
    max_tokens
        Longest candidate.
    seed
        Of the whole run; each prompt's own seed is derived from it and its key.
    response_prefix
        How every candidate has to begin, as part of it; needs a server with vLLM's
        continue_final_message.
    concurrency
        Prompts asked for at a time.
    api_key_file
        File with the server's key.
    timeout_s
        Longest wait for one prompt's candidates, in seconds.
    retry_budget_s
        How long a server may stay away before the job stops, in seconds.
    """

    async def run() -> Exit:
        check_paths(prompts, out)
        rows = read_rows(prompts)
        _check_messages(prompts, rows)
        async with _client(
            generator_url, generator_model, api_key_file, timeout_s, retry_budget_s
        ) as client:

            async def draw(row: Row) -> Row:
                completions = await client.complete(
                    row["messages"],
                    n=n,
                    temperature=temperature,
                    top_p=TOP_P,
                    max_tokens=max_tokens,
                    seed=row_seed(seed, row["key"]),
                    prefix=response_prefix,
                )
                return {"model": client.model, "responses": [asdict(c) for c in completions]}

            job = Job(
                command="generate",
                source=prompts,
                rows=rows,
                out=out,
                settings={
                    "n": n,
                    "temperature": temperature,
                    "top_p": TOP_P,
                    "max_tokens": max_tokens,
                    "seed": seed,
                    # Only where there is one: rows drawn before the option existed stay good.
                    **({"response_prefix": response_prefix} if response_prefix else {}),
                },
                server={"generator_model": generator_model},
                concurrency=concurrency,
                notes={"generator_url": generator_url, "concurrency": concurrency},
            )
            return await run_job(job, draw)

    return exit_code(lambda: asyncio.run(run()))


def row_seed(seed: int, key: str) -> int:
    """A row's seed, 0 <= seed < 2**31 (what every server's seed field takes)."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _client(
    url: str, model: str, api_key_file: Path | None, timeout_s: float, retry_budget_s: float
) -> AsyncGeneratorClient:
    try:
        return AsyncGeneratorClient(
            url,
            model=model,
            api_key=read_api_key(api_key_file),
            timeout_s=timeout_s,
            retry=Retry(budget_s=retry_budget_s),
        )
    except ValueError as error:
        raise UsageError(f"--generator-url: {error}") from None


def _check_messages(path: Path, rows: list[Row]) -> None:
    for row in rows:
        try:
            _messages.validate_python(row.get("messages"))
        except ValidationError as error:
            reason = describe_first_error(error, "messages")
            raise UsageError(f"{path}: key {row['key']!r}: {reason}") from None
