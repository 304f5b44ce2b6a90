"""`make demo`: the whole story on one machine. Serve, sample, judge, score, choose, report.

A user asks a question whose answer stands in the prompt, and believes a wrong answer. How often
does the best of N answers tell him what he believes?

The file reads from top to bottom. Nothing here is tuned on the questions that are reported: the
value of S at which the penalty begins was fixed on questions of the dev split
(docs/decisions.md), and the reported questions are in no training set.

Progress goes to stderr, and so do the commands to go on with; the last line of stdout is one JSON
object.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from cyclopts import App

from candor.jobs.compare.words import read_words
from candor.jobs.grounded.asking import question_row
from candor.jobs.grounded.judged import judged_prompts
from candor.jobs.running.files import read_rows, write_rows
from candor.jobs.running.processes import exit_on_sigterm
from candor.probes import artifact
from demo.assets import null_probes_of
from demo.commands import main, run, say
from demo.grounded import page, summary
from demo.grounded.answers import MAX_TOKENS, STOP, TEMPERATURE
from demo.grounded.asked import SEEDS, Split, measured
from demo.next_steps import next_steps
from demo.pace import measure, say_pace, say_plan
from demo.servers import KAPPA, PROBE, Generator, ask_once, generator_name
from demo.steps import Draws, all_scored, both_servers, draw_responses, provenance

M = 64
"""Answers per prompt: four times the largest N, so that best-of-N does not rest on one answer."""
DRAWS = Draws(M, TEMPERATURE, MAX_TOKENS, (STOP,))

app = App(name="python -m demo.run")


@app.default
def demo(
    *,
    assets: Path = Path("build/demo"),
    out: Path = Path("runs/demo"),
    generator: Generator = "transformers",
    seed: int = 0,
    split: Split = "test",
) -> int:
    """Measure how often best-of-16 agrees with users who are wrong, with and without the penalty.

    Parameters
    ----------
    assets
        Folder that `python -m demo.assets` made.
    out
        Folder for the answers, the scores and report.html. A second run continues the first.
    generator
        Sampler of the answers: transformers, or the vLLM of `make vllm`.
    seed
        Seed of the answers.
    split
        Questions to ask.
    """
    exit_on_sigterm()
    nulls = null_probes_of(assets)
    rows = [question_row(*each, SEEDS[split]) for each in measured(split)]
    report = out / "report.html"
    say_what_is_done(len(rows), generator, report)
    out.mkdir(parents=True, exist_ok=True)
    prompts = out / "prompts.jsonl"
    write_rows(prompts, rows)
    served = [name for names in nulls.values() for name in names]
    name = generator_name(generator)
    with both_servers(assets, out, generator, PROBE, served) as (reward_url, generator_url):
        sample_and_score(reward_url, generator_url, name, prompts, out, seed)
        answer = ask_once(reward_url)

    scored = read_rows(out / "scored.jsonl")
    if not all_scored(scored):
        return 65
    say("measuring what best-of-N chooses")
    judged = judged_prompts(out / "scored.jsonl", scored)
    words = read_words(assets / "probes" / PROBE / "words.json")
    found = summary.measure(judged, nulls, words, seed=seed)
    questions = f"{split} split of demo.grounded.asked"
    made = provenance(answer, PROBE, seed, out / "scored.jsonl", questions=questions)
    cards = {PROBE: artifact.load(assets / "probes" / PROBE).card}
    page.write_page(report, found, judged, scored, cards, answer["model"], made)
    say("\n" + summary.table(found) + "\n")
    print(json.dumps(summary.as_json(found, report)), flush=True)
    say("\n" + next_steps(assets, KAPPA, report))
    return 0


def say_what_is_done(num_prompts: int, generator: Generator, report: Path) -> None:
    """Says first what the demo does."""
    say_plan(
        f"The demo asks {num_prompts // 2} questions, each once by a user who is wrong and once by "
        "a user who is right.",
        [
            f"start a reward server and a generator ({generator}) on this machine",
            f"draw {M} answers to each of the {num_prompts} prompts ({M * num_prompts:,} answers)",
            "judge every answer by a comparison of words, and score it over HTTP",
            f"measure what the best of N is, by R and by the penalised reward, and write {report}",
        ],
        "How long this takes is measured in step 1. Stopped, it goes on where it was.",
    )


def sample_and_score(
    reward_url: str, generator_url: str, name: str, prompts: Path, out: Path, seed: int
) -> None:
    """`candor generate`, `judge` and `score`, each on the output of the one before."""
    foreign = (question_row(*each, SEEDS["train"]) for each in measured("train"))
    say_pace(out, lambda: measure(generator_url, name, reward_url, foreign, **asdict(DRAWS)))
    rollouts, judged, scored = (
        out / f"{stage}.jsonl" for stage in ("rollouts", "judged", "scored")
    )
    draw_responses(generator_url, name, prompts, rollouts, DRAWS, seed)
    run("judge", f"--rollouts={rollouts}", f"--out={judged}")
    run("score", f"--rollouts={judged}", f"--out={scored}", f"--reward-url={reward_url}")


if __name__ == "__main__":
    main(app)
