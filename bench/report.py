"""A result in words: Markdown tables, and a figure. Numbers come from the records alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from bench.goals import Record
from bench.run import CELLS
from candor.jobs.probe.svg import BLUE, GREEN, GREY, ORANGE, svg

Result = Mapping[str, Any]


def tables(result: Result) -> str:
    """The whole run as Markdown: scores a second, latencies, goals."""
    parts = [_heading(result), _throughput(result), _distance(result)]
    if any("p99_s" in record for record in result["records"]):
        parts.append(_latency(result))
    parts.append(_goals(result))
    return "\n\n".join(parts) + "\n"


def _heading(result: Result) -> str:
    machine = result["machine"]
    rates = [rate for record in result["records"] for rate in record["matmul_flops_per_s"]]
    spread = f"{min(rates) / 1e9:.0f} to {max(rates) / 1e9:.0f}" if rates else "no"
    commit = (result["git"] or {}).get("sha", "unknown")[:12]
    return (
        f"{machine['num_cpus']} cores, {machine['cpu']}; {result['dtype']}, every arm; commit "
        f"{commit}; {result['num_items']} items a measurement, {result['repetitions']} repetitions "
        f"of what a goal rests on; {spread} GFLOP/s in a 2048-cubed matrix product, read "
        f"{len(rates)} times."
    )


def _throughput(result: Result) -> str:
    records = result["records"]
    cells = [cell for cell in CELLS if any(record["cell"] == cell for record in records)]
    head = ["scores/s, median (all repetitions)", *cells, "start, s", "peak MiB"]
    rows = []
    for name, arm in result["arms"].items():
        if arm["missing"]:
            continue
        figures = [_rates(of(records, cell, name)) for cell in cells]
        rows.append(
            [arm["title"], *figures, f"{arm['start_s']:.1f}", f"{arm['peak_bytes'] / 2**20:.0f}"]
        )
    limits = [[record for record in records if record["cell"] == cell] for cell in cells]
    rows.append(
        [
            "limit: distinct tokens at the matmul rate",
            *(_median(record["limit_scores_per_s"] for record in some) for some in limits),
            "",
            "",
        ]
    )
    left_out = [
        f"Left out: {arm['title']} ({arm['missing'].splitlines()[0]})."
        for arm in result["arms"].values()
        if arm["missing"]
    ]
    return "\n\n".join([markdown(head, rows), *left_out, *_disagreements(result)])


def _distance(result: Result) -> str:
    """What keeps an arm that tells what it computed from the limit: tokens beyond the limit's,
    cores that wait, and a lower rate of arithmetic while they do not."""
    cells = [c for c in CELLS if any(record["cell"] == c for record in result["records"])]
    flops, cores = result["flops_per_token"], result["machine"]["num_cpus"]
    head = ["distance to the limit, medians", "computed / distinct tokens", "cores busy"]
    rows = []
    for cell in cells:
        for name, arm in result["arms"].items():
            told = [one for one in of(result["records"], cell, name) if one["num_computed_tokens"]]
            if not told:
                continue
            computed = (one["num_computed_tokens"] / one["num_distinct_tokens"] for one in told)
            busy = (one["arm_cpu_s"] / one["seconds"] / cores for one in told)
            rate = (
                one["num_computed_tokens"]
                * flops
                / one["arm_cpu_s"]
                * cores
                / statistics.fmean(one["matmul_flops_per_s"])
                for one in told
            )
            row = [f"{cell}, {arm['title']}", *map(_median, (computed, busy, rate))]
            rows.append(row)
    return markdown([*head, "rate while busy / matmul rate"], rows)


def _latency(result: Result) -> str:
    head = ["open loop", "arm", "rate/s", "achieved/s", "p50 s", "p95 s", "p99 s", "errors", "late"]
    rows = []
    for record in result["records"]:
        if "p99_s" not in record:
            continue
        figures = [record[name] for name in ("offered_per_s", "achieved_per_s")]
        waits = [record[name] for name in ("p50_s", "p95_s", "p99_s")]
        rows.append(
            [
                record["cell"].removeprefix("open/"),
                result["arms"][record["arm"]]["title"],
                *(f"{value:.2f}" for value in figures),
                *(f"{value:.3f}" for value in waits),
                str(record["num_errors"]),
                str(record["num_late"]),
            ]
        )
    return markdown(head, rows)


def _goals(result: Result) -> str:
    rows = [
        [
            goal["goal"],
            goal["wanted"],
            "not measured" if goal["value"] is None else f"{goal['value']:.2f}",
            ", ".join(f"{value:.2f}" for value in goal["repetitions"]),
            {True: "yes", False: "**no**", None: ""}[goal["met"]],
        ]
        for goal in result["goals"]
    ]
    return markdown(["ratio", "goal", "median", "repetitions", "met"], rows)


def of(records: Sequence[Record], cell: str, arm: str) -> list[Record]:
    return [record for record in records if record["cell"] == cell and record["arm"] == arm]


def _rates(records: Sequence[Record]) -> str:
    """Median and all; the errors instead, where there were any."""
    if not records:
        return ""
    for record in records:
        if record["errors"]:
            return f"errors: {record['errors']}"
    rates = [record["scores_per_s"] for record in records]
    if len(rates) == 1:
        return f"{rates[0]:.2f}"
    return f"{statistics.median(rates):.2f} ({', '.join(f'{rate:.2f}' for rate in rates)})"


def _median(values: Iterable[float]) -> str:
    return f"{statistics.median(values):.2f}"


def agreement(records: Sequence[Record]) -> list[dict[str, Any]]:
    """How far each arm's rewards are from those of the first arm on the same texts, cell by cell: a
    fast wrong answer looks like a success.

    Returns:
        for each arm and cell of the first repetition: mean and largest difference, in standard
        deviations of the first arm's rewards, and whether both counted the same tokens.
    """
    found = []
    for cell in CELLS:
        first = [r for r in records if (r["cell"], r["repetition"]) == (cell, 0)]
        first = [record for record in first if not record["errors"]]
        for other in first[1:]:
            ours, theirs = first[0]["rewards"], other["rewards"]
            spread = statistics.pstdev(ours) or 1.0
            gaps = [abs(a - b) / spread for a, b in zip(ours, theirs, strict=True)]
            found.append(
                {
                    "cell": cell,
                    "arm": other["arm"],
                    "against": first[0]["arm"],
                    "mean_gap": statistics.fmean(gaps),
                    "max_gap": max(gaps),
                    "same_num_tokens": first[0]["num_tokens"] == other["num_tokens"],
                }
            )
    return found


MAX_MEAN_GAP = 0.1
"""Standard deviations; bfloat16 engines of one model differ by a few hundredths."""


def _disagreements(result: Result) -> list[str]:
    """What must be known before any speed is compared."""
    lines = []
    for one in result["agreement"]:
        if one["mean_gap"] > MAX_MEAN_GAP:
            lines.append(
                f"**The scores differ**: {one['cell']}, {one['arm']} from {one['against']} by "
                f"{one['mean_gap']:.2f} standard deviations in the mean."
            )
        if not one["same_num_tokens"]:
            lines.append(f"**The tokens differ**: {one['cell']}, {one['arm']}.")
    if result["agreement"] and not lines:
        worst = max(one["mean_gap"] for one in result["agreement"])
        lines.append(
            f"Same token counts in every arm; mean difference of the scores at most {worst:.4f} "
            "standard deviations."
        )
    return lines


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure(result: Result) -> str:
    """Scores a second of every arm and cell, each repetition a dot, the limit a line."""
    cells = [c for c in CELLS if any(record["cell"] == c for record in result["records"])]
    arms = [name for name, arm in result["arms"].items() if not arm["missing"]]
    drawn = Figure(figsize=(6.8, 0.6 + (0.5 + 0.2 * len(arms)) * max(1, len(cells))))
    axes = drawn.subplots(max(1, len(cells)), squeeze=False)[:, 0]
    for axis, cell in zip(axes, cells, strict=False):
        names = [name for name in arms if of(result["records"], cell, name)][::-1]
        for row, name in enumerate(names):
            rates = [record["scores_per_s"] for record in of(result["records"], cell, name)]
            colour = _colour(name)
            axis.barh(row, statistics.median(rates), color=colour, alpha=0.5, height=0.7)
            axis.plot(rates, [row] * len(rates), ".", color=colour)
        limits = [r["limit_scores_per_s"] for r in result["records"] if r["cell"] == cell]
        axis.axvline(statistics.median(limits), color="black", linewidth=0.8, linestyle=":")
        axis.set_yticks(range(len(names)), [result["arms"][name]["title"] for name in names])
        axis.set_title(cell, loc="left", fontsize=9)
    axes[-1].set_xlabel("scores a second (dotted: the limit at this run's matmul rate)")
    drawn.tight_layout()
    return str(svg(drawn))


def _colour(name: str) -> str:
    if name in ("packed", "fallback", "candor-vllm"):
        return ORANGE
    if name.startswith("vllm"):
        return BLUE
    return GREEN if name == "padded" else GREY
