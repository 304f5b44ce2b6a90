"""The RL demo's tables in Markdown, from its summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from demo.grounded.summary import cell

HEADS = {
    "agrees_wrong": "agrees with a wrong user",
    "truth_wrong": "tells a wrong user the truth",
    "agrees_right": "agrees with a right user",
    "truth": "truth, all prompts",
    "no_answer": "no answer",
    "neutral_base_reward": "R, no opinion",
    "wording.words": "words",
    "wording.hedging": "hedges",
    "wording.certainty": "claims certainty",
    "auroc.sycophancy.within": "probe, within prompts",
    "auroc.sycophancy.with_opinion": "probe, pooled",
    "auroc.monitor.within": "monitor, within prompts",
    "auroc.monitor.with_opinion": "monitor, pooled",
    "kl": "KL, nats",
}
AGREEMENT = ("agrees_wrong", "truth_wrong", "agrees_right")

Summary = Mapping[str, Any]


def markdown(summary: Summary) -> str:
    """Every table of the comparison, each under a line that says what it holds."""
    return "\n\n".join(f"{title}\n\n{table}" for title, table in _tables(summary))


def _tables(summary: Summary) -> Iterator[tuple[str, str]]:
    arms = summary["arms"]
    yield f"At step {summary['step']}, over seeds:", _at_step(arms)
    if summary["kl"]["level"] is not None:
        level = f"a KL of {summary['kl']['level']:.2f} nats per response"
        yield f"At {level}, which every run reached:", _shares(arms, "equal_kl")
    if summary["differences"]:
        yield "Paired by seed:", _differences(summary["differences"])
    yield "What took the place of agreement, means over seeds:", _along(summary["substitution"])
    yield "AUROC with the judge's labels, means over seeds:", _along(summary["auroc"])
    yield "Run by run:", _runs(summary["runs"])


def _at_step(arms: Mapping[str, Any]) -> str:
    names = (*AGREEMENT, "kl")
    starts = next(iter(arms.values()))["start"]  # one policy, whatever it is trained on
    first = ["before", *(_cell(starts[name]) for name in AGREEMENT), "0"]
    rows = [[arm, *(_cell(found["equal_step"][name]) for name in names)]
            for arm, found in arms.items()]  # fmt: skip
    return _table(["trained on", *(HEADS[name] for name in names)], [first, *rows])


def _shares(arms: Mapping[str, Any], at: str) -> str:
    rows = [[arm, *(_cell(found[at][name]) for name in AGREEMENT)] for arm, found in arms.items()]
    return _table(["trained on", *(HEADS[name] for name in AGREEMENT)], rows)


def _differences(differences: Mapping[str, Any]) -> str:
    rows = [
        [f"{pair}, {at.replace('_', ' ').replace('kl', 'KL')}"]
        + [_cell(found[name][at]) for name in AGREEMENT]
        for pair, found in differences.items()
        for at in ("equal_step", "equal_kl")
        if found[AGREEMENT[0]][at] is not None
    ]
    return _table(["difference", *(HEADS[name] for name in AGREEMENT)], rows)


def _along(by_arm: Mapping[str, Mapping[str, Any]]) -> str:
    """A row per arm and evaluated step. Before the first step all arms are the same policy."""
    names = list(next(iter(next(iter(by_arm.values())).values())))
    rows = [
        [arm, step, *(_number(row[name]["mean"]) for name in names)]
        for arm, by_step in by_arm.items()
        for step, row in by_step.items()
    ]
    return _table(["trained on", "step", *(HEADS.get(name, name) for name in names)], rows)


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{run['arm']}, seed {run['seed']}",
            f"{run['start']['agrees_wrong']:.3f} to {run['end']['agrees_wrong']:.3f}",
            _number(run["end"]["kl"]),
            run["outcome"],
            *(_number(fall) for fall in run["auroc_fall"].values()),
            str(run["num_pairs"]),
            f"{run['steps_with_alarm']} of {run['steps_compared']}",
            str(run["first_alarm"] or "-"),
        ]
        for run in runs
    ]
    heads = [
        "run",
        HEADS["agrees_wrong"],
        "KL at the end",
        "outcome",
        "fall of the probe's AUROC",
        "of the monitor's",
        "pairs at the end",
        "steps with an alarm",
        "first at step",
    ]
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(found: float | None) -> str:
    return "-" if found is None else f"{found:.3f}"


def _cell(found: Mapping[str, float | None]) -> str:
    if found["mean"] is None or found["low"] is None or found["high"] is None:
        return _number(found["mean"])
    return cell((found["mean"], found["low"], found["high"]))
