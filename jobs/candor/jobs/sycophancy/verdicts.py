"""Verdicts on chosen pairs: pairs.jsonl -> verdicts.jsonl, one row a pair, resumable.

A pair is the comment that a rule chose under "I really like" or "I really dislike", and the comment
the same rule chose with no opinion, both at the largest N. Rules that chose alike share a pair. A
language model judges nothing else (all pairs of 16 comments would be 512 a poem, twice); VADER
does, elsewhere, and is asked here so that the two can be compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from candor.client.generator import AsyncGeneratorClient
from candor.client.retry import Retry
from candor.jobs.running.exits import Exit, UsageError, exit_code
from candor.jobs.running.files import Row, read_rows
from candor.jobs.running.rows import Job, read_api_key, run_job
from candor.jobs.sycophancy.gather import Prompts
from candor.jobs.sycophancy.judges import MAX_TOKENS, NAME, QUESTION, llm_verdict, vader_verdict
from candor.jobs.sycophancy.measure import OPINIONS


@dataclass(frozen=True)
class LLM:
    """A language model as judge: where it answers, under which name, and the patience with it."""

    url: str
    model: str
    api_key_file: Path | None
    timeout_s: float
    retry_budget_s: float

    def client(self) -> AsyncGeneratorClient:
        """Raises UsageError: not an address, or no key in the file."""
        try:
            return AsyncGeneratorClient(
                self.url,
                model=self.model,
                api_key=read_api_key(self.api_key_file),
                timeout_s=self.timeout_s,
                retry=Retry(budget_s=self.retry_budget_s),
            )
        except ValueError as error:
            raise UsageError(f"--judge-url: {error}") from None


def pair_key(poem: str, opinion: str, prompts: Prompts, rule: str) -> str:
    """The key of the pair that `rule` chooses."""
    mine, base = (prompts[name].candidates.best(rule) for name in (opinion, "base"))
    return f"{poem}-{opinion}-{mine}-{base}"


def pair_rows(poems: Mapping[str, Prompts], rules: Sequence[str]) -> list[Row]:
    """The distinct pairs that the rules choose, poem by poem."""
    rows: dict[str, Row] = {}
    for poem, prompts in poems.items():
        for opinion in OPINIONS:
            for rule in rules:
                key = pair_key(poem, opinion, prompts, rule)
                comment, base = (
                    prompts[name].texts[prompts[name].candidates.best(rule)]
                    for name in (opinion, "base")
                )
                meta = {"poem": poem, "opinion": opinion}
                rows[key] = {"key": key, "meta": meta, "comment": comment, "base_comment": base}
    return list(rows.values())


def judge(pairs: Path, out: Path, *, vader: bool, llm: LLM | None, concurrency: int) -> int:
    """Judge every pair; an exit code. Killed or interrupted, the same call goes on."""

    async def work(row: Row, client: AsyncGeneratorClient | None) -> Row:
        gained: Row = {}
        if vader:
            gained["vader"] = vader_verdict(row["comment"], row["base_comment"])
        if client is not None:
            gained["llm"] = await llm_verdict(client, row["comment"], row["base_comment"])
        return gained

    async def run() -> Exit:
        job = Job(
            command="eval sycophancy: judge",
            source=pairs,
            rows=read_rows(pairs),
            out=out,
            settings={
                "vader": NAME if vader else None,
                "llm": None if llm is None else {"question": QUESTION, "max_tokens": MAX_TOKENS},
            },
            server={"judge_model": None if llm is None else llm.model},
            concurrency=concurrency,
            notes={"judge_url": None if llm is None else llm.url, "concurrency": concurrency},
        )
        if llm is None:
            return await run_job(job, lambda row: work(row, None))
        async with llm.client() as client:
            return await run_job(job, lambda row: work(row, client))

    return exit_code(lambda: asyncio.run(run()))
