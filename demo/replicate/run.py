"""`make replicate`: the paper's recipe beside ours, from labelled rows to best-of-16.

    rows        the kinds of rows we wrote, and the policy's own comments on the training poems
    probes      the paper's recipe (arXiv 2412.00967) on the paper's four kinds; ours on all seven
    scale       std(R) and std(S) of each probe on the policy's candidates for the training poems
    best-of-16  on the evaluation's poems, which no training set holds: by R, and by R minus the
                penalty of either probe

The file reads from top to bottom. A second run continues the first. Layers, kappa and bound were
chosen on the `dev` poems (docs/decisions.md).

Progress goes to stderr; the last line of stdout is the summary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cyclopts import App

from candor.jobs.running.files import write_json, write_rows
from candor.jobs.running.processes import candor, exit_on_sigterm
from candor.jobs.sycophancy.prompts import feedback_prompt_rows
from demo.commands import main, run, say, serving
from demo.next_steps import opened, to_paste
from demo.pace import Steps, say_plan
from demo.poems.pairs import poems
from demo.poems.run import DRAWS, Split
from demo.replicate.summary import print_tables, summarise
from demo.steps import draw_responses, is_there, train_probe

NUM_DRAWN = 12
"""Comments per prompt on the training poems; the probes train on them and are scaled on them."""

N = 16
"""Candidates per prompt of the reported poems."""

LAYERS = "12-24"
GENERATOR = "SmolLM2-135M-Instruct-transformers"


@dataclass(frozen=True)
class Recipe:
    """One way from labelled rows to a penalty.

    Attributes:
        name: the name of the probe.
        kinds: kinds of the rows we wrote; an empty tuple is all kinds.
        rule: the rule that labels the policy's own comments (`candor data feedback`).
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
    # The paper's lambda of 0.5 is a kappa of 1.33 (UltraRM) and 1.73 (Starling-RM).
    kappa=1.33,
)
OURS = Recipe(
    name="ours",
    kinds=(),
    rule="siding",
    train=("--method=logistic", "--pooling=mean", "--bound=hinge", "--select=transfer"),
    # The hinge is at the median S: a response below it pays nothing, and a low S earns nothing.
    calibrate=("--bound=hinge", "--hinge-percentile=50"),
    kappa=2.0,
)
RECIPES = (PAPER, OURS)

STEPS = (
    f"draw comments with the generator: {NUM_DRAWN} per prompt on the training poems, {N} on the "
    "others",
    "write labelled rows and fit a probe by each recipe",
    "score the training comments, and calibrate the probes on them",
    "score the other comments, and compare what best-of-N chooses",
)


app = App(name="python -m demo.replicate.run")


@app.default
def replicate(
    *,
    assets: Path = Path("build/demo"),
    out: Path = Path("runs/replicate"),
    split: Split = "test",
    seed: int = 0,
) -> None:
    """Compare the paper's recipe with ours, from labelled rows to best-of-16.

    Parameters
    ----------
    assets
        Folder that `python -m demo.assets` made.
    out
        Folder for rows, probes, scores and summary.json. A second run continues the first.
    split
        Poems of the best-of-16.
    seed
        Seed of the candidates.
    """
    exit_on_sigterm()
    say_plan(
        "This compares the paper's recipe with ours, from labelled rows to the best of "
        f"{N} comments.",
        STEPS,
        "Long steps say what is left of them. Stopped, the comparison goes on where it was.",
    )
    steps = Steps(len(STEPS))
    out.mkdir(parents=True, exist_ok=True)
    model = assets / "model"
    steps.begin()
    training, evaluation = draw(assets, out, split, seed)
    steps.begin()
    for recipe in RECIPES:
        fit(recipe, model, out, training)
    steps.begin()
    calibrate(model, out, training)
    steps.begin()
    kappas = [f"{recipe.name}={recipe.kappa}" for recipe in RECIPES]
    scored = score(model, out, evaluation, kappas)
    summary = summarise(
        {recipe.name: out / "probes" / recipe.name for recipe in RECIPES},
        {recipe.name: recipe.kappa for recipe in RECIPES},
        scored,
    )
    write_json(out / "summary.json", summary)
    print_tables(summary)
    print(json.dumps({"summary": str(out / "summary.json"), **summary["headline"]}), flush=True)
    folders = {recipe.name: out / "probes" / recipe.name for recipe in RECIPES}
    pages = [
        (f"Open the page of the probe {name}:", opened(folder / "report.html"))
        for name, folder in folders.items()
    ]
    say("\n" + to_paste(pages))


def draw(assets: Path, out: Path, split: str, seed: int) -> tuple[Path, Path]:
    """Files of the policy's comments: on the training poems, and on the evaluation's poems."""
    model = assets / "generator"
    server = candor("generator", f"--model={model}", f"--served-model-name={GENERATOR}")
    drawn = []
    with serving(server, out / "generator.log") as url:
        for part, n in (("train", NUM_DRAWN), (split, N)):
            prompts, rollouts = out / f"{part}-prompts.jsonl", out / f"{part}-rollouts.jsonl"
            write_rows(prompts, feedback_prompt_rows(poems(part)))
            draws = replace(DRAWS, n=n)
            draw_responses(url, GENERATOR, prompts, rollouts, draws, seed)
            drawn.append(rollouts)
    return drawn[0], drawn[1]


def fit(recipe: Recipe, model: Path, out: Path, training: Path) -> None:
    """Make the rows and the probe of one recipe. Does nothing where the probe exists."""
    folder = out / "probes" / recipe.name
    if is_there(folder):
        return
    written, sampled = out / f"{recipe.name}-rows.jsonl", out / f"{recipe.name}-policy.jsonl"
    run("data", "build", f"--out={written}", *(f"--kind={kind}" for kind in recipe.kinds))
    run("data", "feedback", f"--rollouts={training}", f"--out={sampled}", f"--rule={recipe.rule}")
    train_probe(
        folder,
        f"--cache={out / 'activations'}",
        *recipe.train,
        data=[written, sampled],
        model=model,
        name=recipe.name,
        trait="The reply sides with an opinion that the user has stated.",
        layers=LAYERS,
    )


def calibrate(model: Path, out: Path, rollouts: Path) -> None:
    """Measure each probe's scale on the policy's training candidates, and write its report."""
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
    """Score every candidate once: R and the S of both probes come out of the same forward pass."""
    server = candor(
        "serve",
        f"--model={model}",
        *(f"--probe={out / 'probes' / recipe.name}" for recipe in RECIPES),
        *(f"--kappa={kappa}" for kappa in kappas),
    )
    scored = rollouts.with_name(rollouts.name.replace("rollouts", "scored"))
    with serving(server, out / "reward.log") as url:
        run("score", f"--rollouts={rollouts}", f"--out={scored}", f"--reward-url={url}")
    return scored


if __name__ == "__main__":
    main(app)
