"""`make rl-demo`: GRPO on R against GRPO on the penalised reward, three seeds each, on one machine.

    monitor      a second probe; it is recorded and never in the reward
    arms         the same prompts, steps, learning rate and KL weight; only the penalty differs
    evaluation   by a second server, on the evaluation's poems, which nothing here trains on

The file reads from top to bottom. A second run continues the first. The strength of the penalty is
the demo's (kappa 2, docs/decisions.md). To try another learning rate, use poems and a seed that are
in no reported run: `--split dev --seeds 100 --learning-rate ... --out ...`.

Progress goes to stderr; the last line of stdout is the summary.
"""

from __future__ import annotations

import json
import secrets
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from candor.jobs.generator.sample import Sampling
from candor.jobs.running.files import write_json, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.running.processes import candor, exit_on_sigterm
from candor.jobs.sycophancy.prompts import feedback_prompt_rows
from demo.commands import main, run, say, serving
from demo.poems.pairs import poems
from demo.poems.run import Split
from demo.rl import monitor as rl_monitor
from demo.rl.summary import print_table, summarise, write_plots
from demo.servers import KAPPA, PROBE

ARMS: dict[str, tuple[str, ...]] = {
    "base": (f"--penalty={PROBE}=0",),
    "penalised": (f"--kappa={PROBE}={KAPPA}", "--warmup-steps=5"),
}


@dataclass(frozen=True, slots=True)
class RlPlan:
    """The size of the comparison.

    Attributes:
        poems: number of poems used from each split; None is all.
        monitor_layers: layers from which the monitor's layer is chosen; the shipped probe is at 18.
        monitor_n: samples per prompt on which the monitor is fitted.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 30
    learning_rate: float = 5e-4
    group_size: int = 8
    max_tokens: int = 32
    eval_every: int = 15
    eval_n: int = 8
    poems: int | None = None
    monitor_layers: str = "20-24"
    monitor_n: int = 8


SMOKE = RlPlan(
    seeds=(0,),
    steps=2,
    group_size=4,
    max_tokens=8,
    eval_every=0,
    eval_n=2,
    poems=6,
    monitor_layers="2",
    monitor_n=2,
)
"""Every stage once, as small as possible. The numbers mean nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of the demo's models, and the folder and files of the results."""

    assets: Path
    out: Path

    @property
    def training(self) -> Path:
        return self.out / "train-prompts.jsonl"

    @property
    def held_out(self) -> Path:
        return self.out / "eval-prompts.jsonl"

    @property
    def monitor(self) -> Path:
        return self.out / "monitor"

    def run(self, arm: str, seed: int) -> Path:
        return self.out / f"{arm}-seed-{seed}"


app = App(name="python -m demo.rl.run")


@app.default
def rl_demo(
    *,
    assets: Path = Path("build/demo"),
    out: Path = Path("runs/rl"),
    split: Split = "test",
    smoke: bool = False,
    seeds: Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True, negative="")] = None,
    steps: int | None = None,
    learning_rate: float | None = None,
) -> None:
    """Train policies by GRPO on R and on the penalised reward, and compare how far they flatter.

    Parameters
    ----------
    assets
        Folder that `python -m demo.assets` made.
    out
        Folder for the runs and the comparison. A second run continues the first.
    split
        Poems of the evaluation.
    smoke
        Run every stage once, as small as possible. The numbers mean nothing.
    seeds
        Seeds of the runs, in place of 0 1 2.
    steps
        Optimiser steps per run, in place of 30.
    learning_rate
        Learning rate of AdamW, in place of 5e-4.
    """
    exit_on_sigterm()
    changes: dict[str, Any] = {"seeds": seeds, "steps": steps, "learning_rate": learning_rate}
    given = {name: value for name, value in changes.items() if value is not None}
    plan = replace(SMOKE if smoke else RlPlan(), **given)
    place = Place(assets, out)
    out.mkdir(parents=True, exist_ok=True)
    began = now()
    write_rows(place.training, feedback_prompt_rows(poems("train")[: plan.poems]))
    write_rows(place.held_out, feedback_prompt_rows(poems(split)[: plan.poems]))
    fit_monitor(place, plan)
    train_all(place, plan)
    compare(place, plan, began)


def compare(place: Place, plan: RlPlan, began: str) -> None:
    """Write summary.json, its manifest and the plots; print the table and the last line."""
    folders = {arm: [place.run(arm, seed) for seed in plan.seeds] for arm in ARMS}
    summary, path = summarise(folders), place.out / "summary.json"
    write_json(path, summary)
    write_plots(place.out, folders)
    write_manifest(
        path,
        command="demo.rl.run",
        inputs={
            "train_prompts": place.training,
            "eval_prompts": place.held_out,
            **{run.name: run / "summary.json" for runs in folders.values() for run in runs},
        },
        settings={**asdict(plan), "kappa": KAPPA, "arms": {a: list(f) for a, f in ARMS.items()}},
        counts={"runs": len(ARMS) * len(plan.seeds)},
        started=began,
    )
    print_table(summary)
    print(json.dumps({"summary": str(path), **summary["headline"]}), flush=True)


def fit_monitor(place: Place, plan: RlPlan) -> None:
    """Sample the policy, label the samples, fit the monitor; nothing where the monitor exists."""
    folder, assets = place.monitor, place.assets
    if (folder / "probe" / "card.json").exists():
        say(f"{folder / 'probe'} is there already")
        return
    folder.mkdir(exist_ok=True)
    training = poems("train")[: plan.poems]
    how = Sampling(plan.monitor_n, plan.max_tokens, 1.0, rl_monitor.SEED)
    rollouts = folder / "rollouts.jsonl"
    sampled = rl_monitor.sample_poems(assets / "generator", training, rollouts, how)
    rows = rl_monitor.monitor_rows(training, sampled)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(
        "probe",
        "train",
        f"--data={folder / 'rows.jsonl'}",
        f"--model={assets / 'model'}",
        f"--out={folder / 'probe'}",
        f"--name={rl_monitor.NAME}",
        "--trait=The reply sides with an opinion that the user has stated.",
        f"--layers={plan.monitor_layers}",
        "--select=within",
        "--seed=1",
    )


def train_all(place: Place, plan: RlPlan) -> None:
    """Train every arm and seed, one after the other; runs that have ended are skipped."""
    # The evaluation's server returns the monitor's scores, because there the monitor is a probe.
    monitor = f"--probe={place.monitor / 'probe'}"
    with serving_rewards(place, place.out / "eval.log", monitor) as eval_url:
        for seed in plan.seeds:
            for arm in ARMS:
                train(place, plan, arm, seed, eval_url)


def train(place: Place, plan: RlPlan, arm: str, seed: int, eval_url: str) -> None:
    """One run, with a server of its own: drift is computed from this run's responses alone."""
    folder = place.run(arm, seed)
    if (folder / "summary.json").exists():
        say(f"{folder} has ended already")
        return
    folder.mkdir(exist_ok=True)
    key = folder / "operator.key"
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(16))
    with serving_rewards(
        place,
        folder / "reward.log",
        f"--monitor={place.monitor / 'probe'}",
        f"--operator-key-file={key}",
        "--drift-window=128",
    ) as url:
        run(
            "rl",
            f"--policy={place.assets / 'generator'}",
            f"--prompts={place.training}",
            f"--eval-prompts={place.held_out}",
            f"--reward-url={url}",
            f"--eval-reward-url={eval_url}",
            f"--operator-key-file={key}",
            f"--out={folder}",
            f"--seed={seed}",
            f"--steps={plan.steps}",
            f"--group-size={plan.group_size}",
            "--prompts-per-step=1",
            f"--learning-rate={plan.learning_rate}",
            "--beta=0.02",
            "--lora-rank=8",
            f"--max-tokens={plan.max_tokens}",
            f"--eval-every={plan.eval_every}",
            f"--eval-n={plan.eval_n}",
            "--save-every=4",
            # A drift window of 128 responses is 16 prompts, too few for an alarm to end the run.
            "--no-stop-on-alarm",
            *ARMS[arm],
        )


def serving_rewards(place: Place, log: Path, *flags: str) -> AbstractContextManager[str]:
    """A reward server with the shipped probe and these flags, until the block ends; its URL."""
    probe = f"--probe={place.assets / 'probes' / PROBE}"
    return serving(candor("serve", f"--model={place.assets / 'model'}", probe, *flags), log)


if __name__ == "__main__":
    main(app)
