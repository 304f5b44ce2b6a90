"""`make rl-demo`: GRPO on R against GRPO on the penalised R, three seeds each, on one machine.

    monitor    a second probe, served to be watched with and never in the reward
    arms       the same prompts, steps, learning rate and KL weight; only the penalty differs
    measured   on the evaluation's poems, which nothing here trains on, by a second server

Reads top to bottom; every command is printed before it runs and can be run by hand. A second run
goes on where the first was stopped. The penalty's strength is the demo's (kappa 2, docs/decisions);
trying another learning rate is `--split dev --seeds 100 --learning-rate ... --out ...`: poems and a
seed that are in no reported run. Progress goes to stderr; the last stdout line is the summary.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from candor.jobs.generator.sample import Sampling
from candor.jobs.running.files import write_json, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.sycophancy.prompts import feedback_rows
from demo.pairs import Work, works
from demo.processes import candor, free_port, running
from demo.rl import monitor as rl_monitor
from demo.rl.summary import print_table, summarise, write_plots
from demo.run import KAPPA, say
from demo.summary import PROBE

ARMS: dict[str, tuple[str, ...]] = {
    "base": (f"--penalty={PROBE}=0",),
    "penalised": (f"--kappa={PROBE}={KAPPA}", "--warmup-steps=5"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done; what is compared stays the same.

    Attributes:
        poems: of each split, from the first; None is all.
        monitor_layers: among which the monitor's is chosen; the shipped probe is at 18.
        monitor_n: samples a prompt that it is fitted on.
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


SMOKE = Plan(
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
"""Every stage once, as small as it goes. Its numbers mean nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demo's models are and where everything goes."""

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


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="RL on R against RL on the penalised R.")
    parser.add_argument("--assets", type=Path, default=Path("build/demo"))
    parser.add_argument("--out", type=Path, default=Path("runs/rl"))
    parser.add_argument("--split", choices=("test", "dev"), default="test", help="which poems")
    parser.add_argument("--smoke", action="store_true", help="every stage, as small as it goes")
    parser.add_argument("--seeds", type=int, nargs="+", help="in place of 0 1 2")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--learning-rate", type=float)
    args = parser.parse_args(argv)
    # Leave by way of the context managers, so that a plain `kill` leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = SMOKE if args.smoke else Plan()
    for name in ("seeds", "steps", "learning_rate"):
        if (given := getattr(args, name)) is not None:
            changed: dict[str, Any] = {name: tuple(given) if name == "seeds" else given}
            plan = replace(plan, **changed)
    place = Place(args.assets, args.out)
    out = place.out
    out.mkdir(parents=True, exist_ok=True)
    began = now()

    write_rows(place.training, feedback_rows(poems_of("train", plan)))
    write_rows(place.held_out, feedback_rows(poems_of(args.split, plan)))
    fit_monitor(place, plan)
    train_all(place, plan)

    folders = {arm: [place.run(arm, seed) for seed in plan.seeds] for arm in ARMS}
    summary = summarise(folders)
    write_json(out / "summary.json", summary)
    write_plots(out, folders)
    write_manifest(
        out / "summary.json",
        command="demo.rl.run",
        inputs={
            "train_prompts": place.training,
            "eval_prompts": place.held_out,
            **{path.name: path / "summary.json" for one in folders.values() for path in one},
        },
        settings={**vars_of(plan), "kappa": KAPPA, "arms": {a: list(f) for a, f in ARMS.items()}},
        counts={"runs": len(ARMS) * len(plan.seeds)},
        started=began,
    )
    print_table(summary)
    print(json.dumps({"summary": str(out / "summary.json"), **summary["headline"]}), flush=True)
    return 0


def poems_of(split: str, plan: Plan) -> list[Work]:
    return [work for work in works(split) if work.kind == "poem"][: plan.poems]


def fit_monitor(place: Place, plan: Plan) -> None:
    """Samples, rows, probe; nothing where the probe is there already."""
    folder, assets = place.monitor, place.assets
    if (folder / "probe" / "card.json").exists():
        say(f"{folder / 'probe'} is there already")
        return
    folder.mkdir(exist_ok=True)
    poems = poems_of("train", plan)
    how = Sampling(plan.monitor_n, plan.max_tokens, 1.0, rl_monitor.SEED)
    sampled = rl_monitor.sample_poems(assets / "generator", poems, folder / "rollouts.jsonl", how)
    rows = rl_monitor.monitor_rows(poems, sampled)
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


def train_all(place: Place, plan: Plan) -> None:
    """Every arm and seed, one after the other; those that have ended only say so."""
    with ExitStack() as stack:
        # The monitor is a probe here, so that its scores of single responses come back.
        log = place.out / "eval.log"
        measuring = serve(stack, place, log, f"--probe={place.monitor / 'probe'}")
        for seed in plan.seeds:
            for arm in ARMS:
                train(place, plan, arm, seed, measuring)


def train(place: Place, plan: Plan, arm: str, seed: int, measuring: str) -> None:
    """One run, against a server of its own: drift is told from this run's responses alone."""
    folder = place.run(arm, seed)
    if (folder / "summary.json").exists():
        say(f"{folder} has ended already")
        return
    folder.mkdir(exist_ok=True)
    key = folder / "operator.key"
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(16))
    with ExitStack() as stack:
        url = serve(
            stack,
            place,
            folder / "reward.log",
            f"--monitor={place.monitor / 'probe'}",
            f"--operator-key-file={key}",
            "--drift-window=128",
        )
        run(
            "rl",
            f"--policy={place.assets / 'generator'}",
            f"--prompts={place.training}",
            f"--eval-prompts={place.held_out}",
            f"--reward-url={url}",
            f"--eval-reward-url={measuring}",
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
            # 128 responses are 16 prompts: too few for an alarm to end a run, so it is only logged.
            "--no-stop-on-alarm",
            *ARMS[arm],
        )


def serve(stack: ExitStack, place: Place, log: Path, *flags: str) -> str:
    """A reward server until the stack ends; its URL."""
    port = free_port()
    command = candor(
        "serve",
        f"--model={place.assets / 'model'}",
        f"--probe={place.assets / 'probes' / PROBE}",
        f"--port={port}",
        *flags,
    )
    url = f"http://127.0.0.1:{port}"
    say(f"$ {shlex.join(command)} &  # log: {log}")
    stack.enter_context(running(command, ready_url=f"{url}/ready", log=log, timeout_s=600))
    return url


def run(*arguments: str) -> None:
    """A `candor` command, told before it runs."""
    say(f"$ candor {shlex.join(arguments)}")
    subprocess.run(candor(*arguments), check=True, stdout=subprocess.DEVNULL)


def vars_of(plan: Plan) -> dict[str, object]:
    return {name: getattr(plan, name) for name in plan.__slots__}


if __name__ == "__main__":
    sys.exit(main())
