"""`candor eval sycophancy`: how far a policy flatters, alone or with best-of-N by a Candor server.

The stages (`candor.jobs.sycophancy.stages`) sample, score and judge; each can be resumed. The
numbers are written to DIR/eval.json; docs/evaluation.md defines each of them. Nothing is fitted or
chosen here. eval.json holds no time, path or address, so the same rows give the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.rollouts.generate import GenerateOptions, generate
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.rollouts.strengths import KappaOption, LambdaOption
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import file_sha256, write_json
from candor.jobs.running.manifest import manifest_path, now, write_manifest
from candor.jobs.sycophancy import results
from candor.jobs.sycophancy.gather import by_meta, by_part, by_poem
from candor.jobs.sycophancy.measure import RULES
from candor.jobs.sycophancy.prompts import SUGGESTIONS, TASKS
from candor.jobs.sycophancy.results import Setting
from candor.jobs.sycophancy.sets import SuiteQuestion, poems, questions
from candor.jobs.sycophancy.stages import Stages, StageStopped, SuiteRows
from candor.jobs.sycophancy.verdicts import JudgeOptions, Judges


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SycophancyOptions:
    """The options of `candor eval sycophancy`."""

    generator_url: str
    """The policy: address of an OpenAI-compatible chat server, such as vLLM."""
    generator_model: str
    """Name under which that server serves the policy. A reply from another model is refused; a
    dated name of the same model is accepted and recorded."""
    out: Path
    """Folder to write: all rows, their manifests and eval.json."""
    reward_url: str | None = None
    """Address of a Candor server. With it, answers are also chosen best-of-N by R (the reward
    model's score) and by the penalised reward (R minus the probes' penalties)."""
    n: int = 16
    """Answers sampled per prompt, and the largest N."""
    tasks: str = ",".join(TASKS)
    """The tasks to run, separated by commas."""
    judges: JudgeOptions = field(default_factory=JudgeOptions)
    penalty: LambdaOption = None
    kappa: KappaOption = None
    temperature: float = 0.8
    """Sampling temperature of the answers; top_p is always 1."""
    max_tokens: int = 128
    """Most tokens per answer."""
    seed: int = 0
    """Seed of the answers."""
    limit: int | None = None
    """Use only the first LIMIT poems and questions, for a trial run."""
    concurrency: int = 4
    """Rows that are worked on at the same time."""
    generator_api_key_file: Path | None = None
    """File that holds the policy server's API key."""
    reward_api_key_file: Path | None = None
    """File that holds the Candor server's API key. Default: the key in CANDOR_API_KEY."""
    timeout_s: float = 600.0
    """Longest wait for one row, in seconds."""
    retry_budget_s: float = 300.0
    """How long a server may be unreachable before the job stops, in seconds."""


@command
def eval_sycophancy(options: SycophancyOptions) -> Exit:
    """Measure a policy's sycophancy. After a kill or an interrupt, the same command continues."""
    started = now()
    tasks = parse_tasks(options.tasks)
    check_options(options)
    judges = options.judges.judges(tasks, options.timeout_s, options.retry_budget_s)
    setting = Setting(*chosen_from(options.n, scored=options.reward_url is not None))
    stages = Stages(
        partial(_sample, options),
        None if options.reward_url is None else partial(_rate, options),
        setting.rules,
        judges,
        options.concurrency,
    )
    suite = questions()[: options.limit]
    try:
        rows = stages.run(options.out, poems()[: options.limit], suite, tasks)
    except StageStopped as stopped:
        return stopped.code
    report = heading(options, tasks, rows) | measured(rows, tasks, suite, judges, setting)
    write(options.out, report, started)
    print(orjson.dumps({"out": str(options.out / "eval.json"), **headline(report)}).decode())
    return Exit.ROWS_FAILED if rows.any_failed else Exit.DONE


def _sample(options: SycophancyOptions, prompts: Path, rollouts: Path) -> int:
    """`candor generate` with the policy; returns its exit status."""
    return generate(
        GenerateOptions(
            prompts=prompts,
            out=rollouts,
            generator_url=options.generator_url,
            generator_model=options.generator_model,
            n=options.n,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            seed=options.seed,
            concurrency=options.concurrency,
            api_key_file=options.generator_api_key_file,
            timeout_s=options.timeout_s,
            retry_budget_s=options.retry_budget_s,
        )
    )


def _rate(options: SycophancyOptions, rollouts: Path, scored: Path) -> int:
    """`candor score` with the reward server; returns its exit status."""
    return score(
        ScoreOptions(
            rollouts=rollouts,
            out=scored,
            reward_url=options.reward_url or "",
            penalty=options.penalty,
            kappa=options.kappa,
            concurrency=options.concurrency,
            api_key_file=options.reward_api_key_file,
            timeout_s=options.timeout_s,
            retry_budget_s=options.retry_budget_s,
        )
    )


def parse_tasks(text: str) -> list[str]:
    """The named tasks, in the order of `TASKS`.

    Raises:
        UsageError: a name that is not a task.
    """
    given = text.split(",")
    for name in given:
        if name not in TASKS:
            raise UsageError(f"--tasks {text}: {name!r} is none of {', '.join(TASKS)}")
    return [name for name in TASKS if name in given]


def check_options(options: SycophancyOptions) -> None:
    """Raises UsageError for options that are out of range or do not go together."""
    if options.n < 1:
        raise UsageError(f"--n {options.n}: must be at least 1")
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit {options.limit}: must be at least 1")
    if (options.penalty or options.kappa) and options.reward_url is None:
        raise UsageError("--penalty and --kappa need a --reward-url, the server that applies them")


def chosen_from(n: int, *, scored: bool) -> tuple[list[int], tuple[str, ...]]:
    """The values of N and the rules of choosing. A random pick is the same at every N."""
    if not scored:
        return [1], RULES[:1]
    return sorted({*(2**k for k in range(n.bit_length())), n}), RULES


def heading(options: SycophancyOptions, tasks: Sequence[str], rows: SuiteRows) -> dict[str, Any]:
    """The report's first part: what was measured, and with which settings."""
    return {
        "policy": options.generator_model,
        "reward_model": next((row["reward_model"] for row in rows.first if "scores" in row), None),
        "n": options.n,
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
        "seed": options.seed,
        "tasks": list(tasks),
        "limit": options.limit,
        "interval": "95 % over poems or questions: Student's t for means, Fieller's for ratios",
    }


def measured(
    rows: SuiteRows,
    tasks: Sequence[str],
    suite: Sequence[SuiteQuestion],
    judges: Judges,
    setting: Setting,
) -> dict[str, Any]:
    """Each task's numbers, and the quality of the answers to those tasks' prompts."""
    found: dict[str, Any] = {}
    quality = {}
    if "feedback" in tasks:
        found["feedback"] = results.feedback(rows.first, rows.verdicts, judges, setting)
        whole, _ = by_poem(rows.first)
        quality["poems"] = results.quality("base", by_part(whole), setting)
    if "are-you-sure" in tasks:
        found["are_you_sure"] = results.are_you_sure(rows.second, suite, setting)
    if "agreement" in tasks:
        found["agreement"] = results.agreement(rows.first, suite, setting)
    suggestions = SUGGESTIONS if "agreement" in tasks else ["plain"]
    questions, _ = by_meta(rows.first, "question", "suggestion", suggestions)
    if questions:
        quality["questions"] = results.quality("plain", by_part(questions), setting)
    return found | {"quality": quality}


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """The last line of stdout: the means at the largest N by rule. The file has the intervals."""

    def means(section: Mapping[str, Any]) -> dict[str, Any]:
        entry = dict(section["along_n"][-1])
        del entry["n"]
        entry = {rule: found for rule, found in entry.items() if "_minus_" not in rule}
        metrics = next(iter(entry.values()))
        return {name: {rule: entry[rule][name]["mean"] for rule in entry} for name in metrics}

    found: dict[str, Any] = {"n": report["n"]}
    if "feedback" in report:
        judges = report["feedback"]["judges"]
        found["feedback"] = {
            name: means(section) for name, section in judges.items() if "along_n" in section
        }
    for name in ("are_you_sure", "agreement"):
        if name in report:
            found[name] = means(report[name])
    for name, section in report["quality"].items():
        if "reward_kept" in section:
            kept = {condition: one["mean"] for condition, one in section["reward_kept"].items()}
            found.setdefault("reward_kept", {})[name] = kept
    sections = ("feedback", "are_you_sure", "agreement")
    found["lost"] = {name: len(report[name]["lost"]) for name in sections if name in report}
    return found


def write(out: Path, report: dict[str, Any], started: str) -> None:
    """Write eval.json and its manifest.

    A run that does not change eval.json keeps the manifest of the run that wrote it.
    """
    path = out / "eval.json"
    before = file_sha256(path) if path.exists() else None
    write_json(path, report)
    if before == file_sha256(path) and manifest_path(path).exists():
        return
    answered = "rollouts.jsonl" if report["reward_model"] is None else "scored.jsonl"
    names = {"feedback": "verdicts.jsonl", "are_you_sure": f"second/{answered}"}
    names = {"first": answered, **{task: names[task] for task in names if task in report}}
    inputs = {role: out / name for role, name in names.items()}
    sections = ("feedback", "are_you_sure", "agreement")
    write_manifest(
        path,
        command="eval sycophancy",
        inputs=inputs,
        settings={name: report[name] for name in ("n", "temperature", "max_tokens", "seed")},
        counts={f"{name}_lost": len(report[name]["lost"]) for name in sections if name in report},
        started=started,
    )
