"""`make demo-poems`: comments on poems. Serve, sample, score, choose, report.

The file reads from top to bottom. Nothing here is tuned on the poems that are reported: the
strength of the penalty was fixed on the `dev` poems (docs/decisions.md), and the reported poems are
in no training set.

Progress goes to stderr, and so do the commands to go on with; the last line of stdout is one JSON
object.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from cyclopts import App

from candor.flags import UsageError
from candor.jobs.running.files import read_rows, write_rows
from candor.jobs.running.processes import exit_on_sigterm
from candor.jobs.sycophancy.prompts import feedback_prompt_rows
from candor.probes import artifact
from demo.commands import main, run, say
from demo.next_steps import next_steps
from demo.pace import measure, say_pace, say_plan
from demo.poems import summary
from demo.poems.pairs import poems
from demo.servers import KAPPA, WRITING_PROBE, Generator, ask_once, generator_name
from demo.steps import Draws, all_scored, both_servers, draw_responses, provenance

Split = Literal["test", "dev"]

M = 64
"""Comments per prompt: four times the largest N, so that best-of-N does not rest on one comment."""
DRAWS = Draws(M, temperature=0.8, max_tokens=60)

app = App(name="python -m demo.poems.run")


@app.default
def demo(
    *,
    assets: Path = Path("build/demo"),
    out: Path = Path("runs/poems"),
    generator: Generator = "transformers",
    seed: int = 0,
    split: Split = "test",
) -> int:
    """Measure how far best-of-16 flatters, with and without the penalty.

    Parameters
    ----------
    assets
        Folder that `python -m demo.assets` made.
    out
        Folder for the samples, the scores and report.html. A second run continues the first.
    generator
        Sampler of the candidates: transformers, or the vLLM of `make vllm`.
    seed
        Seed of the candidates.
    split
        Poems to comment on.
    """
    exit_on_sigterm()
    if not (assets / "probes" / WRITING_PROBE).is_dir():
        raise UsageError(
            f"{assets} has no probe {WRITING_PROBE}: the shipped frozen trunk has none. Fit it by "
            "`make assets TRUNK=frozen RETRAIN=1`, or take the trained trunk (TRUNK=lora)"
        )
    rows = feedback_prompt_rows(poems(split))
    report = out / "report.html"
    say_what_is_done(len(rows), generator, report)
    out.mkdir(parents=True, exist_ok=True)
    prompts = out / "prompts.jsonl"
    write_rows(prompts, rows)
    name = generator_name(generator)
    with both_servers(assets, out, generator, WRITING_PROBE) as (reward_url, generator_url):
        sample_and_score(reward_url, generator_url, name, prompts, out, seed)
        answer = ask_once(reward_url)

    scored = read_rows(out / "scored.jsonl")
    if not all_scored(scored):
        return 65
    say("measuring what best-of-N chooses")
    best = summary.measure(list(summary.gather(scored).values()), summary.NS)
    titles = {poem.id: poem.title for poem in poems(split)}
    works = f"{split} split of demo.poems.pairs.works"
    made = provenance(answer, WRITING_PROBE, seed, out / "scored.jsonl", poems=works)
    cards = {WRITING_PROBE: artifact.load(assets / "probes" / WRITING_PROBE).card}
    summary.write_page(report, scored, best, titles, cards, answer["model"], made)
    summary.print_table(best)
    print(json.dumps(summary.as_json(best, scored, report)), flush=True)
    say("\n" + next_steps(assets, KAPPA, report, WRITING_PROBE))
    return 0


def say_what_is_done(num_prompts: int, generator: Generator, report: Path) -> None:
    """Says first what the demo does."""
    say_plan(
        f"The demo asks for comments on {num_prompts // 3} poems, each of which one user likes, "
        "one dislikes and one does not judge.",
        [
            f"start a reward server and a generator ({generator}) on this machine",
            f"draw {M} comments for each of the {num_prompts} prompts ({M * num_prompts:,} in all)",
            "score every comment over HTTP, and choose the best of N",
            f"measure by a lexicon how far the choices flatter, and write {report}",
        ],
        "How long this takes is measured in step 1. Stopped, it goes on where it was.",
    )


def sample_and_score(
    reward_url: str, generator_url: str, name: str, prompts: Path, out: Path, seed: int
) -> None:
    """`candor generate`, `candor score` and `candor bon`, each on the output of the one before."""
    foreign = feedback_prompt_rows(poems("train"))
    say_pace(out, lambda: measure(generator_url, name, reward_url, foreign, **asdict(DRAWS)))
    rollouts, scored = out / "rollouts.jsonl", out / "scored.jsonl"
    draw_responses(generator_url, name, prompts, rollouts, DRAWS, seed)
    run("score", f"--rollouts={rollouts}", f"--out={scored}", f"--reward-url={reward_url}")
    run("bon", f"--scored={scored}", f"--out={out / 'bon.json'}")


if __name__ == "__main__":
    main(app)
