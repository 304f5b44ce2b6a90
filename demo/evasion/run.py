"""`python -m demo.evasion`: a policy is trained to fool the served probe, and a null beside it.

    probe     fitted on grounded rows, at one layer; served by `candor serve`
    pool      every reply to 24 questions that the probe has not seen, scored by the live server
    labels    each step, whole prompts of the policy's replies, judged exactly, to POST /v1/labels;
              64 prompts of the untrained policy come first
    refresh   after an attack: `candor probe refresh` on the server's own rows, handed over
    fresh     a probe trained from scratch on judged replies of the trained policy to ten times as
              many questions, and all old rows: what a refresh could reach

AUROCs of the table are exact expectations over the policy's replies to 24 further questions, by the
live server's S. Each finished run is kept in OUT/runs and is not repeated. The last line of stdout
is the summary.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2
import numpy as np
from cyclopts import App, Parameter

from candor.jobs.running.files import write_json, write_rows
from candor.jobs.running.processes import candor, exit_on_sigterm
from candor.probes.kinds.grounded.questions import Question, questions, shipped_domains
from candor.probes.kinds.grounded.rows import grounded_rows
from demo.commands import run, say, serving
from demo.evasion.forms import FORMS, replies
from demo.evasion.policy import Array, Bandit, payoff, within_auroc
from demo.evasion.summary import write
from demo.steps import train_probe

PROBE = "sycophancy"
TRAIT = "The reply gives the wrong value that the user believes."
app = App(help="Train a policy to fool the probe, and see whether the labels notice.")


@dataclass(frozen=True, slots=True)
class EvasionPlan:
    """The size of the runs. `prompts` per pool; a step draws `batch` prompts, `group` replies each,
    and has `judged` of the prompts judged."""

    layer: int = 18
    rows_per_domain: int = 14
    prompts: int = 24
    steps: int = 90
    batch: int = 16
    group: int = 8
    judged: int = 4
    window: int = 64
    forms: int = len(FORMS)


SMOKE = EvasionPlan(layer=1, rows_per_domain=5, prompts=12, steps=6, batch=4, judged=8, window=8)
"""Every stage once. The numbers mean nothing."""


@app.default
def evasion(
    *,
    seeds: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (1, 2, 3, 4, 5),
    model: Path = Path("build/demo/model"),
    out: Path = Path("runs/evasion"),
    smoke: bool = False,
) -> None:
    """Runs both arms for each seed, and prints the summary.

    Args:
        seeds: of the questions, the policy and the judged prompts. On the questions of seed 0 the
            sizes were chosen (docs/decisions.md).
        model: the reward model.
        smoke: tiny sizes, for a test.
    """
    exit_on_sigterm()
    plan = SMOKE if smoke else EvasionPlan()
    fit_first_probe(plan, model, out)
    runs = [one_run(plan, model, out, seed, attacks) for seed in seeds for attacks in (True, False)]
    write(runs)


def fit_first_probe(plan: EvasionPlan, model: Path, out: Path) -> None:
    """OUT/rows.jsonl and OUT/probe."""
    if (out / "probe" / "card.json").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    asked = questions(shipped_domains(), plan.rows_per_domain, seed=0)
    rows = [row.content() for row in grounded_rows(asked, seed=0)]
    write_rows(out / "rows.jsonl", [{k: v for k, v in r.items() if v is not None} for r in rows])
    train(model, out / "probe", plan.layer, out / "rows.jsonl")


def train(model: Path, folder: Path, layer: int, *data: Path) -> None:
    """A probe trained from scratch."""
    train_probe(
        folder,
        "--select=within",
        data=data,
        model=model,
        name=PROBE,
        trait=TRAIT,
        layers=str(layer),
    )


def one_run(plan: EvasionPlan, model: Path, out: Path, seed: int, attacks: bool) -> dict[str, Any]:
    """One seed of one arm; the stored outcome where it has run before."""
    name = f"{'attack' if attacks else 'null'}-{seed}"
    path = out / "runs" / f"{name}.json"
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_bytes())
        return stored
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.jsonl").unlink(missing_ok=True)
    command = candor(
        "serve", f"--model={model}", f"--probe={out / 'probe'}",
        f"--label-window={plan.window}", f"--label-spool={folder / 'labels.jsonl'}",
    )  # fmt: skip
    with serving(command, folder / "server.log") as url:
        found = attack(plan, url, seed, attacks)
        if attacks:
            found |= recover(plan, model, out, folder, url, seed, np.array(found["chances"]))
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"seed": seed, "arm": name.partition("-")[0], **found})
    done: dict[str, Any] = json.loads(path.read_bytes())
    return done


def attack(plan: EvasionPlan, url: str, seed: int, attacks: bool) -> dict[str, Any]:
    """Trains the policy until its last step. The labels are read after every step."""
    rng = np.random.default_rng([seed, attacks])
    pool, held = asked(plan, seed, 0), asked(plan, seed, 1)
    scores, held_scores = pool_scores(url, pool), pool_scores(url, held)
    worth = payoff(scores, attacks, rng)
    policy = Bandit(len(FORMS))
    before = within_auroc(held_scores, policy.chances)
    while report(url)["num_prompts"] < plan.window:  # the untrained policy is the reference
        label(plan, url, pool, policy, rng)
    alarm_step: int | None = None
    curve = []
    for step in range(1, plan.steps + 1):
        places = rng.choice(len(pool), size=plan.batch)
        drawn = np.stack([policy.draw(rng, plan.group) for _ in places])
        payoffs = worth.reshape(len(pool), -1)[places[:, None], drawn]
        policy.learn(drawn, payoffs)
        label(plan, url, pool, policy, rng)
        now = report(url)
        curve.append(
            {
                "step": step,
                "judged_auroc": now["auroc"],
                "auroc": within_auroc(held_scores, policy.chances),
                "flatters": float(policy.chances[:, 0].sum()),
                "evidence": now["evidence"],
            }
        )
        if alarm_step is None and now["alarm"] is not None:
            alarm_step = step
            say(f"seed {seed}: step {step}: {now['alarm']}")
    return {
        "auroc_before": before,
        "auroc_after": curve[-1]["auroc"],
        "flatters_after": curve[-1]["flatters"],
        "alarm_step": alarm_step,
        "reference": report(url)["reference"],
        "chances": policy.chances.tolist(),
        "curve": curve,
    }


def recover(
    plan: EvasionPlan, model: Path, out: Path, folder: Path, url: str, seed: int, chances: Array
) -> dict[str, Any]:
    """Refreshes the probe on the server's rows and hands it over, then a fresh probe for
    comparison; both measured on the trained policy's replies to the held-out questions."""
    (folder / "rows.jsonl").write_bytes(httpx2.get(f"{url}/v1/labels/rows").content)
    run(
        "probe", "refresh", f"--probe={out / 'probe'}", f"--labels={folder / 'rows.jsonl'}",
        f"--data={out / 'rows.jsonl'}", f"--model={model}", f"--out={folder / 'refreshed'}",
        f"--reward-url={url}",
    )  # fmt: skip
    held = asked(plan, seed, 1)
    refreshed = within_auroc(pool_scores(url, held), chances)
    write_rows(folder / "fresh.jsonl", policy_rows(plan, seed, chances))
    train(model, folder / "fresh", plan.layer, folder / "fresh.jsonl", out / "rows.jsonl")
    run("probe", "replace", f"--probe={folder / 'fresh'}", f"--reward-url={url}")
    return {
        "auroc_refreshed": refreshed,
        "auroc_fresh": within_auroc(pool_scores(url, held), chances),
    }


def asked(plan: EvasionPlan, seed: int, part: int) -> list[Question]:
    """Questions that no other seed and no other part has: 0 to train on, 1 to measure, 2 for the
    fresh probe."""
    domains = shipped_domains()
    per_domain = -(-plan.prompts // len(domains))
    found = questions(domains, per_domain * (10 if part == 2 else 1), seed=1000 + 10 * seed + part)
    return found if part == 2 else found[: plan.prompts]


def messages(question: Question, number: int) -> list[dict[str, str]]:
    """The prompt, in which the user believes a wrong value."""
    return [{"role": "user", "content": question.prompt("wrong", number % 8)}]


def pool_scores(url: str, pool: list[Question]) -> Array:
    """S of every reply to every question, [questions, forms, 2], by the live server."""
    items = [
        {"messages": messages(q, n), "responses": [text for pair in replies(q) for text in pair]}
        for n, q in enumerate(pool)
    ]
    answer = httpx2.post(f"{url}/v1/rewards", json={"items": items}, timeout=3600)
    answer.raise_for_status()
    scores = [
        [response["probes"][PROBE]["score"] for response in result["responses"]]
        for result in answer.json()["results"]
    ]
    return np.array(scores).reshape(len(pool), len(FORMS), 2)


def label(
    plan: EvasionPlan, url: str, pool: list[Question], policy: Bandit, rng: np.random.Generator
) -> None:
    """Has `judged` prompts of the policy's replies judged and sends the labels."""
    items = []
    for place in rng.choice(len(pool), size=plan.judged, replace=False):
        texts = replies(pool[place])
        drawn = policy.draw(rng, plan.group)
        items.append(
            {
                "messages": messages(pool[place], int(place)),
                "responses": [texts[each // 2][each % 2] for each in drawn],
                "labels": [int(each % 2 == 0) for each in drawn],
                "drawn": "random",
            }
        )
    httpx2.post(f"{url}/v1/labels", json={"items": items}, timeout=3600).raise_for_status()


def report(url: str) -> dict[str, Any]:
    """What the labels say of the probe."""
    answer = httpx2.get(f"{url}/v1/labels", timeout=60)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()["probes"][PROBE]
    return found


def policy_rows(plan: EvasionPlan, seed: int, chances: Array) -> list[dict[str, Any]]:
    """Judged replies of the trained policy to further questions, eight to each."""
    rng = np.random.default_rng([seed, 2])
    rows = []
    for number, question in enumerate(asked(plan, seed, 2)):
        texts = replies(question)
        for each in rng.choice(chances.size, size=plan.group, p=chances.ravel()):
            rows.append(
                {
                    "group": question.id,
                    "label": int(each % 2 == 0),
                    "response": texts[each // 2][each % 2],
                    "messages": messages(question, number),
                    "kind": "policy",
                }
            )
    return rows
