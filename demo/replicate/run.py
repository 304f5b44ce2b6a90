"""`make replicate`: the paper's recipe beside ours, from labelled rows to best-of-16.

    rows        the kinds we wrote, and the policy's own comments on the training poems, judged
    probes      the paper's recipe (arXiv 2412.00967) on the paper's four kinds; ours on all seven
    scale       std(R) and std(S) of each probe on the policy's candidates for the training poems
    best-of-16  on the evaluation's poems, which no training set holds, under R and either penalty

Reads top to bottom; every command is printed before it runs and can be run by hand. A second run
goes on where the first was stopped. Whatever was chosen (layers, kappa, bound) was chosen on the
`dev` poems (docs/decisions.md). Progress goes to stderr; the last stdout line is the summary.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from candor.jobs.running.files import write_json
from demo.pairs import works
from demo.processes import candor, free_port, running
from demo.replicate.summary import print_tables, summarise
from demo.run import N, say, write_prompts

NUM_DRAWN = 12
"""Comments on each training poem under each prompt: what the probes' policy rows are made of."""

LAYERS = "12-24"
GENERATOR = "SmolLM2-135M-Instruct-transformers"


@dataclass(frozen=True)
class Recipe:
    """One way from labelled rows to a penalty.

    Attributes:
        name: of its probe.
        kinds: of the rows we wrote; none of them is all.
        rule: how the policy's own comments are labelled (`candor data feedback`).
        train: flags of `candor probe train`.
        calibrate: flags of `candor probe calibrate`.
        kappa: the penalty's strength, in within-prompt standard deviations.
    """

    name: str
    kinds: tuple[str, ...]
    rule: str
    train: tuple[str, ...]
    calibrate: tuple[str, ...]
    kappa: float


PAPER = Recipe(
    name="paper",
    kinds=("open-ended", "subjective-choice", "objective-choice"),
    rule="paper",
    train=("--method=paper", "--pooling=mean", "--bound=none", "--select=within"),
    calibrate=(),
    # Their lambda of 0.5 is a kappa of 1.33 (UltraRM) and 1.73 (Starling-RM).
    kappa=1.33,
)
OURS = Recipe(
    name="ours",
    kinds=(),
    rule="siding",
    train=("--method=logistic", "--pooling=mean", "--bound=hinge", "--select=transfer"),
    # Half of what the policy says pays nothing; one-sided, so nobody is paid for a low S.
    calibrate=("--bound=hinge", "--hinge-percentile=50"),
    kappa=2.0,
)
RECIPES = (PAPER, OURS)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The paper's recipe beside ours.")
    parser.add_argument("--assets", type=Path, default=Path("build/demo"))
    parser.add_argument("--out", type=Path, default=Path("runs/replicate"))
    parser.add_argument("--split", choices=("test", "dev"), default="test", help="which poems")
    parser.add_argument("--seed", type=int, default=0, help="draws other candidates")
    args = parser.parse_args(argv)
    # Leave by way of the context managers, so that a plain `kill` leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)

    training, evaluation = draw(args.assets, out, args.split, args.seed)
    for recipe in RECIPES:
        fit(recipe, args.assets / "model", out, training)
    calibrate(args.assets / "model", out, training)
    scored = score(args.assets / "model", out, evaluation, [f"{r.name}={r.kappa}" for r in RECIPES])
    summary = summarise(
        {recipe.name: out / "probes" / recipe.name for recipe in RECIPES},
        {recipe.name: recipe.kappa for recipe in RECIPES},
        scored,
    )
    write_json(out / "summary.json", summary)
    print_tables(summary)
    print(json.dumps({"summary": str(out / "summary.json"), **summary["headline"]}), flush=True)
    return 0


def draw(assets: Path, out: Path, split: str, seed: int) -> tuple[Path, Path]:
    """The policy's comments on the training poems and on those to be measured: two files."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = candor(
        "generator",
        f"--model={assets / 'generator'}",
        f"--served-model-name={GENERATOR}",
        f"--port={port}",
    )
    drawn = []
    with ExitStack() as stack:
        say(f"$ {shlex.join(server)} &  # log: {out / 'generator.log'}")
        stack.enter_context(
            running(server, ready_url=f"{url}/health", log=out / "generator.log", timeout_s=600)
        )
        for part, n in (("train", NUM_DRAWN), (split, N)):
            prompts, rollouts = out / f"{part}-prompts.jsonl", out / f"{part}-rollouts.jsonl"
            write_prompts(prompts, [work for work in works(part) if work.kind == "poem"])
            run(
                "generate",
                f"--prompts={prompts}",
                f"--out={rollouts}",
                f"--generator-url={url}",
                f"--generator-model={GENERATOR}",
                f"--n={n}",
                "--temperature=0.8",
                "--max-tokens=60",
                f"--seed={seed}",
            )
            drawn.append(rollouts)
    return drawn[0], drawn[1]


def fit(recipe: Recipe, model: Path, out: Path, training: Path) -> None:
    """Rows and probe of one recipe; nothing where its card is there already."""
    folder = out / "probes" / recipe.name
    if (folder / "card.json").exists():
        say(f"{folder} is there already")
        return
    written, sampled = out / f"{recipe.name}-rows.jsonl", out / f"{recipe.name}-policy.jsonl"
    run("data", "build", f"--out={written}", *(f"--kind={kind}" for kind in recipe.kinds))
    run("data", "feedback", f"--rollouts={training}", f"--out={sampled}", f"--rule={recipe.rule}")
    run(
        "probe",
        "train",
        f"--data={written}",
        f"--data={sampled}",
        f"--model={model}",
        f"--out={folder}",
        f"--name={recipe.name}",
        "--trait=The reply sides with an opinion that the user has stated.",
        f"--layers={LAYERS}",
        f"--cache={out / 'activations'}",
        *recipe.train,
    )


def calibrate(model: Path, out: Path, rollouts: Path) -> None:
    """Scale and page of every probe, from one pass over the policy's training candidates."""
    scored = score(model, out, rollouts, [])
    for recipe in RECIPES:
        folder = out / "probes" / recipe.name
        run(
            "probe",
            "calibrate",
            f"--probe={folder}",
            f"--scored={scored}",
            f"--kappa={recipe.kappa}",
            *recipe.calibrate,
        )
        run("probe", "report", f"--probe={folder}")


def score(model: Path, out: Path, rollouts: Path, kappas: Sequence[str]) -> Path:
    """Every candidate once: R and both probes' S come out of the same forward."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = candor(
        "serve",
        f"--model={model}",
        *(f"--probe={out / 'probes' / recipe.name}" for recipe in RECIPES),
        *(f"--kappa={kappa}" for kappa in kappas),
        f"--port={port}",
    )
    scored = rollouts.with_name(rollouts.name.replace("rollouts", "scored"))
    say(f"$ {shlex.join(server)} &  # log: {out / 'reward.log'}")
    with running(server, ready_url=f"{url}/ready", log=out / "reward.log", timeout_s=600):
        run("score", f"--rollouts={rollouts}", f"--out={scored}", f"--reward-url={url}")
    return scored


def run(*arguments: str) -> None:
    """A `candor` command, told before it runs."""
    say(f"$ candor {shlex.join(arguments)}")
    subprocess.run(candor(*arguments), check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
