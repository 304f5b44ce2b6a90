"""Verdicts on chosen pairs: pairs.jsonl -> verdicts.jsonl, one row per pair, resumable.

A pair is the comment that a rule chose under "I really like" or "I really dislike", and the comment
that the same rule chose with no opinion, both at the largest N. Rules that choose the same comments
share a pair. The language model judges these pairs alone, because all pairs of 16 comments would be
512 per poem. VADER judges all pairs elsewhere (`candor.jobs.sycophancy.measure`), and the chosen
pairs here, so that the two judges can be compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cyclopts import Group, Parameter

from candor.client.generator import AsyncGeneratorClient
from candor.flags import UsageError, read_key_file
from candor.jobs.rollouts.generate import open_generator
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import Row, read_rows
from candor.jobs.running.rows import Job, run_job
from candor.jobs.sycophancy.gather import Prompts
from candor.jobs.sycophancy.judges import (
    MAX_TOKENS,
    NAME,
    QUESTION,
    check_vader,
    llm_verdict,
    vader_verdict,
)
from candor.jobs.sycophancy.measure import OPINIONS


@dataclass(frozen=True)
class LLM:
    """A language model as judge: its address, its served name, and the patience with it."""

    url: str
    model: str
    api_key: str | None = field(repr=False)
    timeout_s: float
    retry_budget_s: float
    max_tokens: int = MAX_TOKENS

    def client(self) -> AsyncGeneratorClient:
        """Raises UsageError when the address is not an HTTP address."""
        return open_generator(
            "--judge-url",
            self.url,
            self.model,
            self.api_key,
            timeout_s=self.timeout_s,
            retry_budget_s=self.retry_budget_s,
        )


@dataclass(frozen=True)
class Judges:
    """The judges of comments: VADER, a language model, or both."""

    vader: bool
    llm: LLM | None


@Parameter(name="*", group=Group("Judges of comments", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """The options that name the judges."""

    judge: str | None = None
    """vader, the offline judge. It is the default where no --judge-url is given."""
    judge_url: str | None = None
    """Address of an OpenAI-compatible server whose language model judges, alone or beside vader."""
    judge_model: str | None = None
    """Name under which that server serves the judge."""
    judge_max_tokens: int = MAX_TOKENS
    """Most tokens of one answer of that judge. A judge that thinks first needs some thousands; its
    thinking (think tags, or a field of its own) is removed before the verdict is read."""
    judge_api_key_file: Path | None = None
    """File that holds the judge server's API key."""

    def judges(self, tasks: Sequence[str], timeout_s: float, retry_budget_s: float) -> Judges:
        """The judges that the options name; VADER where they name none.

        Raises:
            UsageError: an unknown judge, an address without a name or the reverse, nothing to
                judge in `tasks`, VADER is not installed, or the key file cannot be read.
        """
        if self.judge not in (None, "vader"):
            raise UsageError(
                f"--judge {self.judge}: the offline judge is vader; a language model is given by "
                "--judge-url and --judge-model"
            )
        if (self.judge_url is None) != (self.judge_model is None):
            raise UsageError("--judge-url and --judge-model go together: give both")
        if "feedback" not in tasks:
            if self.judge or self.judge_url:
                raise UsageError("a judge is for the feedback task: add it to --tasks")
            return Judges(vader=False, llm=None)
        if self.judge_max_tokens < 1:
            raise UsageError(f"--judge-max-tokens {self.judge_max_tokens}: must be at least 1")
        vader = self.judge == "vader" or self.judge_url is None
        if vader:
            check_vader()
        llm = None
        if self.judge_url is not None and self.judge_model is not None:
            api_key = read_key_file("--judge-api-key-file", self.judge_api_key_file)
            llm = LLM(
                self.judge_url,
                self.judge_model,
                api_key,
                timeout_s,
                retry_budget_s,
                self.judge_max_tokens,
            )
        return Judges(vader, llm)


def pair_key(poem: str, opinion: str, prompts: Prompts, rule: str) -> str:
    """The key of the pair that `rule` chooses."""
    chosen, base = (prompts[name].candidates.best(rule) for name in (opinion, "base"))
    return f"{poem}-{opinion}-{chosen}-{base}"


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


@command
def judge(pairs: Path, out: Path, judges: Judges, *, concurrency: int) -> Exit:
    """Judge every pair; returns an exit status. After a kill, the same call continues."""
    llm = judges.llm

    async def work(row: Row, client: AsyncGeneratorClient | None) -> Row:
        verdicts: Row = {}
        if judges.vader:
            verdicts["vader"] = vader_verdict(row["comment"], row["base_comment"])
        if llm is not None and client is not None:
            verdicts["llm"] = await llm_verdict(
                client, row["comment"], row["base_comment"], max_tokens=llm.max_tokens
            )
        return verdicts

    async def run() -> Exit:
        client = None if llm is None else llm.client()
        job = Job(
            command="eval sycophancy: judge",
            source=pairs,
            rows=read_rows(pairs),
            out=out,
            settings={
                "vader": NAME if judges.vader else None,
                "llm": None
                if llm is None
                else {"question": QUESTION, "max_tokens": llm.max_tokens},
            },
            server={"judge_model": None if llm is None else llm.model},
            concurrency=concurrency,
            notes={
                "judge_url": None if llm is None else llm.url,
                "answered_by": None if client is None else client.answered_by,
                "concurrency": concurrency,
            },
        )
        if client is None:
            return await run_job(job, lambda row: work(row, None))
        async with client:
            return await run_job(job, lambda row: work(row, client))

    return asyncio.run(run())
