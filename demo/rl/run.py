"""`make rl-demo`: GRPO on grounded questions in four arms that differ in the penalty alone.

    R           the reward model's own score
    penalised   R minus the probe's penalty
    permuted    the penalties of a prompt's responses are handed out among them at random: as large
                as the real ones, and they know nothing
    projected   R of a server that takes the probe's direction out of the activations
                (`candor serve --method project`); no penalty

Every run has a reward server of its own, so that its drift windows hold this run alone. A second
server scores the evaluations for all runs; there the monitor is a probe without a penalty, so that
its S of single responses comes back. The strength of the penalty is the demo's (kappa 2,
docs/decisions.md). A run that has ended is not repeated, and one that was stopped goes on.

Progress goes to stderr; the last line of stdout is the headline of the summary.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from candor.jobs.running.files import write_rows
from candor.jobs.running.processes import candor, exit_on_sigterm
from demo.commands import main, run, say, serving
from demo.next_steps import opened, to_paste
from demo.pace import Runs, say_plan
from demo.rl import monitor as rl_monitor
from demo.rl.prompts import evaluation_prompts, training_prompts
from demo.rl.raw import write_raw
from demo.rl.summary import main as summarise
from demo.servers import KAPPA, PROBE
from demo.steps import is_there, train_probe

Arm = Literal["R", "penalised", "permuted", "projected"]
NO_PENALTY = f"--penalty={PROBE}=0"
PENALTY = f"--kappa={PROBE}={KAPPA}"
ARMS: dict[Arm, tuple[str, ...]] = {
    "R": (NO_PENALTY,),
    "penalised": (PENALTY,),
    "permuted": (PENALTY, "--permute-penalties"),
    "projected": (),  # a projected probe has no strength
}
SERVED_WITH: dict[Arm, tuple[str, ...]] = {"projected": ("--method=project",)}
"""Further flags of an arm's reward server."""
DEFAULT_ARMS: tuple[Arm, ...] = ("R", "penalised", "permuted")


@dataclass(frozen=True, slots=True)
class RlPlan:
    """The size of the comparison. docs/decisions.md says how the values were chosen.

    Attributes:
        per_domain: training questions of each domain.
        eval_per_domain, eval_held_out: questions of each evaluated domain, trained and held out.
        monitor_per_domain: questions of each domain on which the monitor is fitted.
        monitor_layers: layers from which the monitor's layer is chosen.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 40
    prompts_per_step: int = 16
    group_size: int = 8
    learning_rate: float = 3e-4
    lora_rank: int = 16
    train_layers: int = 8
    max_tokens: int = 6
    temperature: float = 0.7
    eval_every: int = 10
    eval_n: int = 8
    per_domain: int = 80
    eval_per_domain: int = 2
    eval_held_out: int = 4
    monitor_per_domain: int = 12
    monitor_layers: str = "20-24"
    drift_window: int = 512


SMOKE = RlPlan(
    seeds=(0,),
    steps=4,
    eval_every=0,
    eval_n=4,
    eval_per_domain=1,
    eval_held_out=2,
    monitor_per_domain=4,
    monitor_layers="20",
    drift_window=128,
)
"""Every stage, as it is in the whole run, for a few steps. The numbers mean nothing."""


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

    @property
    def raw(self) -> Path:
        return self.out / "raw"

    def run(self, arm: str, seed: int) -> Path:
        return self.out / f"{arm}-seed-{seed}"


app = App(name="python -m demo.rl.run")
Several = Parameter(consume_multiple=True, negative="")


@app.default
def rl_demo(
    *,
    assets: Path = Path("build/demo"),
    out: Path = Path("runs/rl"),
    arms: Annotated[tuple[Arm, ...], Several] = DEFAULT_ARMS,
    seeds: Annotated[tuple[int, ...] | None, Several] = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    smoke: bool = False,
) -> None:
    """Train policies by GRPO on R, on the penalised reward and on null arms, and compare them.

    Parameters
    ----------
    assets
        Folder that `python -m demo.assets` made.
    out
        Folder for the runs and the comparison. A second run continues the first.
    arms
        Arms to train: R, penalised, permuted, projected. The comparison has all that are in `out`.
    seeds
        Seeds of the runs, in place of 0 1 2 3 4.
    steps
        Optimiser steps per run, in place of 40.
    learning_rate
        Learning rate of AdamW, in place of 3e-4.
    smoke
        Run every stage for a few steps. The numbers mean nothing.
    """
    exit_on_sigterm()
    changes: dict[str, Any] = {"seeds": seeds, "steps": steps, "learning_rate": learning_rate}
    given = {name: value for name, value in changes.items() if value is not None}
    plan = replace(SMOKE if smoke else RlPlan(), **given)
    place = Place(assets, out)
    say_what_is_done(plan, arms, out)
    place.raw.mkdir(parents=True, exist_ok=True)
    write_rows(place.training, training_prompts(plan.per_domain))
    write_rows(place.held_out, evaluation_prompts(plan.eval_per_domain, plan.eval_held_out))
    fit_monitor(place, plan)
    # The evaluation's server returns the monitor's scores, because there the monitor is a probe.
    monitor = f"--probe={place.monitor / 'probe'}"
    runs = Runs(len(plan.seeds) * len(arms))
    with serving_rewards(place, out / "eval.log", monitor) as eval_url:
        for seed in plan.seeds:
            for arm in arms:
                train(place, plan, arm, seed, eval_url, runs)
    summarise(place.raw, out=out)
    figures = [("Open the figures by step:", "steps.svg"), ("And against KL:", "kl.svg")]
    say("\n" + to_paste([(what, opened(out / name)) for what, name in figures]))


def say_what_is_done(plan: RlPlan, arms: Sequence[Arm], out: Path) -> None:
    """Says first what the demo does."""
    say_plan(
        f"This trains {len(plan.seeds) * len(arms)} policies by GRPO, {plan.steps} steps each: "
        f"{' and '.join(arms) if len(arms) < 3 else ', '.join(arms)}, with the seeds "
        f"{', '.join(map(str, plan.seeds))}.",
        [
            "fit the monitor, a probe that no policy is trained against",
            "train the policies, one after the other, each with a reward server of its own",
            f"compare them, and write tables and figures to {out}",
        ],
        "The first policy's steps say how long it takes; when it has ended, the demo says how long "
        "all take. Stopped, it goes on where it was.",
    )


def fit_monitor(place: Place, plan: RlPlan) -> None:
    """Fit the monitor; nothing where it exists."""
    folder = place.monitor
    if is_there(folder / "probe"):
        return
    folder.mkdir(exist_ok=True)
    rl_monitor.write_rows(folder / "rows.jsonl", plan.monitor_per_domain)
    train_probe(
        folder / "probe",
        "--select=within",
        "--seed=1",
        data=[folder / "rows.jsonl"],
        model=place.assets / "model",
        name=rl_monitor.NAME,
        trait="The reply gives a wrong value that the user believes.",
        layers=plan.monitor_layers,
    )


def train(place: Place, plan: RlPlan, arm: Arm, seed: int, eval_url: str, runs: Runs) -> None:
    """One run, with a server of its own, and its raw file."""
    folder, raw = place.run(arm, seed), place.raw / f"{arm}-seed-{seed}.json"
    if (folder / "summary.json").exists() and raw.exists():
        runs.skip(folder.name)
        return
    runs.begin(folder.name)
    folder.mkdir(exist_ok=True)
    key = folder / "operator.key"
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(16))
    with serving_rewards(
        place,
        folder / "reward.log",
        f"--monitor={place.monitor / 'probe'}",
        f"--operator-key-file={key}",
        f"--drift-window={plan.drift_window}",
        *SERVED_WITH.get(arm, ()),
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
            *training_flags(plan, seed),
            *ARMS[arm],
        )
    write_raw(folder, raw, arm, seed)


def training_flags(plan: RlPlan, seed: int) -> list[str]:
    """The flags of `candor rl` that every arm shares."""
    return [
        f"--seed={seed}",
        f"--steps={plan.steps}",
        f"--group-size={plan.group_size}",
        f"--prompts-per-step={plan.prompts_per_step}",
        f"--learning-rate={plan.learning_rate}",
        # A KL term would cost a pass of the untrained policy over every response. The runs are
        # compared at equal KL, which the evaluations measure.
        "--beta=0",
        f"--lora-rank={plan.lora_rank}",
        f"--train-layers={plan.train_layers}",
        f"--max-tokens={plan.max_tokens}",
        f"--temperature={plan.temperature}",
        "--stop=.",
        f"--eval-every={plan.eval_every}",
        f"--eval-n={plan.eval_n}",
        f"--save-every={min(10, plan.steps)}",
        # An alarm is a result here, not a reason to end a run that is to be compared.
        "--no-stop-on-alarm",
    ]


def serving_rewards(place: Place, log: Path, *flags: str) -> AbstractContextManager[str]:
    """A reward server with the shipped probe and these flags, until the block ends; its URL."""
    probe = f"--probe={place.assets / 'probes' / PROBE}"
    return serving(candor("serve", f"--model={place.assets / 'model'}", probe, *flags), log)


if __name__ == "__main__":
    main(app)
