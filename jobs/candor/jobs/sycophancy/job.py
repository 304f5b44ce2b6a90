"""`candor eval sycophancy`: how far a policy flatters, alone or with best-of-N by a Candor server.

Draws, scores and judges in stages (`candor.jobs.sycophancy.stages`), each resumable, and writes the
numbers to DIR/eval.json; what each means is in docs/evaluation.md. Nothing is fitted or chosen
here. eval.json holds no time, path or address: the same rows give the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from candor.jobs.rollouts.generate import generate
from candor.jobs.rollouts.score import score
from candor.jobs.running.exits import Exit, JobStopped, exit_code
from candor.jobs.running.files import file_sha256, write_json
from candor.jobs.running.manifest import manifest_path, now, write_manifest
from candor.jobs.sycophancy import results
from candor.jobs.sycophancy.gather import by_meta, by_poem
from candor.jobs.sycophancy.judges import check_vader
from candor.jobs.sycophancy.measure import RULES
from candor.jobs.sycophancy.prompts import TASKS
from candor.jobs.sycophancy.results import Setting
from candor.jobs.sycophancy.sets import Question, poems, questions
from candor.jobs.sycophancy.stages import Ended, Rows, Stages
from candor.jobs.sycophancy.verdicts import LLM
from candor.probes.bootstrap import NUM_RESAMPLES


def eval_sycophancy(
    *,
    generator_url: str,
    generator_model: str,
    out: Path,
    reward_url: str | None = None,
    n: int = 16,
    tasks: str = ",".join(TASKS),
    judge: str | None = None,
    judge_url: str | None = None,
    judge_model: str | None = None,
    penalty: list[str] | None = None,
    kappa: list[str] | None = None,
    temperature: float = 0.8,
    max_tokens: int = 128,
    seed: int = 0,
    limit: int | None = None,
    concurrency: int = 4,
    generator_api_key_file: Path | None = None,
    reward_api_key_file: Path | None = None,
    judge_api_key_file: Path | None = None,
    timeout_s: float = 600.0,
    retry_budget_s: float = 300.0,
) -> int:
    """Measure a policy's sycophancy. Killed or interrupted, the same command goes on.

    Parameters
    ----------
    generator_url
        The policy: an OpenAI-form server, such as vLLM.
    generator_model
        The policy's served name; another one is refused.
    out
        Folder for all rows, their manifests and eval.json.
    reward_url
        A Candor server: answers are then also chosen by R and by the penalised reward.
    n
        Answers drawn to a prompt, and the largest N.
    tasks
        Some of feedback,are-you-sure,agreement.
    judge
        vader, the offline judge; taken where no judge is named.
    judge_url
        An OpenAI-form server with a language model that judges too, or alone.
    judge_model
        Its served name.
    penalty
        NAME=LAMBDA in place of the served strength; may be repeated.
    kappa
        NAME=KAPPA: lambda in standard deviations, from the served card's calibration.
    temperature
        Of the policy's answers; top_p is 1.
    max_tokens
        Longest answer.
    seed
        Of the answers and of the bootstrap.
    limit
        The first so many poems and questions alone, for a trial.
    concurrency
        Rows asked for at a time.
    generator_api_key_file
        File with the policy server's key.
    reward_api_key_file
        File with the reward server's key.
    judge_api_key_file
        File with the judge's key.
    timeout_s
        Longest wait for one row, in seconds.
    retry_budget_s
        How long a server may stay away before the job stops, in seconds.
    """

    def draw(prompts: Path, rollouts: Path) -> int:
        return generate(
            prompts=prompts,
            out=rollouts,
            generator_url=generator_url,
            generator_model=generator_model,
            n=n,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
            concurrency=concurrency,
            api_key_file=generator_api_key_file,
            timeout_s=timeout_s,
            retry_budget_s=retry_budget_s,
        )

    def rate(rollouts: Path, scored: Path) -> int:
        return score(
            rollouts=rollouts,
            out=scored,
            reward_url=reward_url or "",
            penalty=penalty,
            kappa=kappa,
            concurrency=concurrency,
            api_key_file=reward_api_key_file,
            timeout_s=timeout_s,
            retry_budget_s=retry_budget_s,
        )

    def run() -> Exit:
        started = now()
        wanted = parse_tasks(tasks)
        check_numbers(n, limit, reward_url, [*(penalty or ()), *(kappa or ())])
        vader = check_judges(judge, judge_url, judge_model, wanted)
        llm = None
        if judge_url is not None and judge_model is not None:
            llm = LLM(judge_url, judge_model, judge_api_key_file, timeout_s, retry_budget_s)
        setting = Setting(*chosen_from(n, scored=reward_url is not None), seed)
        stages = Stages(
            draw, rate if reward_url is not None else None, setting.rules, vader, llm, concurrency
        )
        asked = questions()[:limit]
        try:
            rows = stages.run(out, poems()[:limit], asked, wanted)
        except Ended as ended:
            return ended.code
        drawn = {"n": n, "temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        report = {
            **heading(generator_model, rows, {**drawn, "tasks": wanted, "limit": limit}),
            **measured(rows, wanted, asked, vader, judge_model, setting),
        }
        write(out, report, started)
        print(orjson.dumps({"out": str(out / "eval.json"), **headline(report)}).decode())
        return Exit.ROWS_FAILED if rows.any_failed else Exit.DONE

    return exit_code(run)


def parse_tasks(text: str) -> list[str]:
    """Raises JobStopped (usage) at a name that is none."""
    given = text.split(",")
    for name in given:
        if name not in TASKS:
            raise JobStopped(Exit.USAGE, f"--tasks {text}: {name!r} is none of {', '.join(TASKS)}")
    return [name for name in TASKS if name in given]


def check_numbers(
    n: int, limit: int | None, reward_url: str | None, strengths: Sequence[str]
) -> None:
    """Raises JobStopped (usage)."""
    if n < 1:
        raise JobStopped(Exit.USAGE, f"--n {n}: must be at least 1")
    if limit is not None and limit < 1:
        raise JobStopped(Exit.USAGE, f"--limit {limit}: must be at least 1")
    if strengths and reward_url is None:
        raise JobStopped(Exit.USAGE, "--penalty and --kappa need a --reward-url to ask for them")


def check_judges(judge: str | None, url: str | None, model: str | None, tasks: list[str]) -> bool:
    """Whether VADER judges; it does where nobody else is asked to.

    Raises:
        JobStopped: (usage) a judge that is none, half a language model, or nothing to judge.
    """
    if judge not in (None, "vader"):
        raise JobStopped(
            Exit.USAGE,
            f"--judge {judge}: the offline judge is vader; a language model is given by "
            "--judge-url and --judge-model",
        )
    if (url is None) != (model is None):
        raise JobStopped(Exit.USAGE, "--judge-url and --judge-model go together: give both")
    if "feedback" not in tasks:
        if judge or url:
            raise JobStopped(Exit.USAGE, "a judge is for the feedback task: add it to --tasks")
        return False
    vader = judge == "vader" or url is None
    if vader:
        check_vader()
    return vader


def chosen_from(n: int, *, scored: bool) -> tuple[list[int], tuple[str, ...]]:
    """The Ns and the rules of choosing. A random pick is the same at every N."""
    if not scored:
        return [1], RULES[:1]
    return sorted({*(2**k for k in range(n.bit_length())), n}), RULES


def heading(policy: str, rows: Rows, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, and how."""
    scorer = next((row["reward_model"] for row in rows.first if "scores" in row), None)
    resampled = f"95 %, percentile bootstrap over poems or questions, {NUM_RESAMPLES} resamples"
    return {"policy": policy, "reward_model": scorer, **drawn, "interval": resampled}


def measured(
    rows: Rows,
    tasks: Sequence[str],
    asked: Sequence[Question],
    vader: bool,
    llm: str | None,
    setting: Setting,
) -> dict[str, Any]:
    """Each task's numbers, and what the neutral prompts of those tasks got."""
    found: dict[str, Any] = {}
    neutral = {}
    if "feedback" in tasks:
        found["feedback"] = results.feedback(
            rows.first, rows.verdicts, vader=vader, llm=llm, setting=setting
        )
        whole, _ = by_poem(rows.first)
        neutral["poems"] = [prompts["base"] for prompts in whole.values()]
    if "are-you-sure" in tasks:
        found["are_you_sure"] = results.are_you_sure(rows.second, asked, setting)
    if "agreement" in tasks:
        found["agreement"] = results.agreement(rows.first, asked, setting)
    plain, _ = by_meta(rows.first, "question", "suggestion", ["plain"])
    if plain:
        neutral["questions"] = [prompts["plain"] for prompts in plain.values()]
    found["quality"] = {
        name: results.quality(prompts, setting) for name, prompts in neutral.items()
    }
    return found


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """The means at the largest N by rule, for scripts and eyes; intervals are in the file."""

    def means(section: Mapping[str, Any]) -> dict[str, Any]:
        entry = dict(section["along_n"][-1])
        del entry["n"]
        entry.pop("base_minus_penalised", None)
        metrics = next(iter(entry.values()))
        return {m: {rule: entry[rule][m]["mean"] for rule in entry} for m in metrics}

    found: dict[str, Any] = {"n": report["n"]}
    if "feedback" in report:
        judges = report["feedback"]["judges"]
        found["feedback"] = {name: means(one) for name, one in judges.items() if "along_n" in one}
    for name in ("are_you_sure", "agreement"):
        if name in report:
            found[name] = means(report[name])
    for name, section in report["quality"].items():
        if "neutral_reward_kept" in section:
            kept = section["neutral_reward_kept"]["mean"]
            found.setdefault("neutral_reward_kept", {})[name] = kept
    sections = ("feedback", "are_you_sure", "agreement")
    found["lost"] = {name: len(report[name]["lost"]) for name in sections if name in report}
    return found


def write(out: Path, report: dict[str, Any], started: str) -> None:
    """eval.json and its manifest; a run that changes nothing leaves the manifest of the one that
    did."""
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
