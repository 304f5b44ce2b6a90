"""A result as Markdown tables and a figure, from its records alone."""

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
    """The run as Markdown: scores per second, distance to the limit, latencies, goals."""
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
        f"{machine['num_cpus']} cores, {machine['cpu']}. Commit {commit}. Every arm in "
        f"{result['dtype']}. {result['num_items']} items per measurement; {result['repetitions']} "
        f"repetitions of the measurements that a goal needs. Products of 2048 x 2048 matrices: "
        f"{spread} GFLOP/s, in {len(rates)} readings."
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
    """What keeps an arm from the limit: tokens computed beyond the distinct ones, waiting cores, a
    lower rate of arithmetic in busy cores. Only for arms that report their computed tokens."""
    cells = [c for c in CELLS if any(record["cell"] == c for record in result["records"])]
    flops, cores = result["flops_per_token"], result["machine"]["num_cpus"]
    head = ["distance to the limit, medians", "computed / distinct tokens", "cores busy"]
    rows = []
    for cell in cells:
        for name, arm in result["arms"].items():
            records = [r for r in of(result["records"], cell, name) if r["num_computed_tokens"]]
            if not records:
                continue
            computed = (r["num_computed_tokens"] / r["num_distinct_tokens"] for r in records)
            busy = (r["arm_cpu_s"] / r["seconds"] / cores for r in records)
            rate = (
                r["num_computed_tokens"]
                * flops
                / r["arm_cpu_s"]
                * cores
                / statistics.fmean(r["matmul_flops_per_s"])
                for r in records
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
    """The records of one arm in one cell."""
    return [record for record in records if record["cell"] == cell and record["arm"] == arm]


def _rates(records: Sequence[Record]) -> str:
    """The median and all rates; in their place the errors of the first record that has any."""
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
    """How far each arm's rewards are from the first arm's, on the same texts: without this check a
    fast wrong answer would look like a success.

    Returns:
        for each cell and each further arm, in the first repetition: mean and largest difference of
        a reward, in standard deviations of the first arm's rewards, and whether both arms counted
        the same number of tokens.
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
"""In standard deviations. Two bfloat16 engines of one model differ by a few hundredths."""


def _disagreements(result: Result) -> list[str]:
    """Differences that make a comparison of speeds meaningless, or a line that there are none."""
    lines = []
    for pair in result["agreement"]:
        if pair["mean_gap"] > MAX_MEAN_GAP:
            lines.append(
                f"**The scores differ**: {pair['cell']}, {pair['arm']} from {pair['against']} by "
                f"{pair['mean_gap']:.2f} standard deviations on average."
            )
        if not pair["same_num_tokens"]:
            lines.append(f"**The tokens differ**: {pair['cell']}, {pair['arm']}.")
    if result["agreement"] and not lines:
        worst = max(pair["mean_gap"] for pair in result["agreement"])
        lines.append(
            "All arms count the same tokens. The scores of two arms differ on average by at most "
            f"{worst:.4f} standard deviations."
        )
    return lines


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure(result: Result) -> str:
    """Scores per second of every arm and cell as SVG: a dot per repetition, the limit as a line."""
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
    axes[-1].set_xlabel("scores per second (dotted: the limit at this run's matmul rate)")
    drawn.tight_layout()
    return str(svg(drawn))


def _colour(name: str) -> str:
    if name in ("packed", "fallback", "candor-vllm"):
        return ORANGE
    if name.startswith("vllm"):
        return BLUE
    return GREEN if name == "padded" else GREY
