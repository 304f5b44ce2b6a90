"""`python -m bench.scaling`: the cost of a forward pass as the number of candidates, the length of
the context, the number of probes or the number of waiting requests grows.

Four curves of Candor alone. The first three are of the engine on random token ids, the fourth is of
a server. The points are measured in turns, so that a slow minute does not fall on a single point.
Each point is a median.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import orjson
from cyclopts import App
from matplotlib.figure import Figure

from bench.arms.bare import Bare
from bench.arms.table import all_arms
from bench.arms.tiny import save_tiny
from bench.live import bring_up
from bench.load import workloads
from bench.load.loops import closed_loop
from bench.load.wire import CANDOR
from bench.machine import Dtype, Matmul, describe, pick_dtype
from bench.run import say
from candor.item import Item
from candor.jobs.probe.svg import BLUE, GREY, ORANGE, svg
from candor.models.load import load_reward_model

CONTEXT, RESPONSE = 256, 64
"""Lengths in tokens, wherever the curve is not about them."""

CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (128, 256, 512, 1024, 2048, 4096)
PROBES = (0, 1, 2, 4, 8, 16)
DEPTHS = (1, 2, 4, 8, 16, 32, 64)

Curve = dict[str, dict[int, list[float]]]
"""Figure -> point -> a value per repetition."""

app = App(name="python -m bench.scaling")


@app.default
def scaling(
    *,
    model: str = "build/demo/model",
    repetitions: int = 3,
    out: Path | None = None,
    quick: bool = False,
) -> None:
    """Measure how the cost grows with candidates, context, probes and waiting requests.

    Parameters
    ----------
    model
        Folder of the reward model.
    repetitions
        Repetitions of every point.
    out
        Folder for scaling.json and scaling.svg. Default: runs/bench/scaling-TIME.
    quick
        Use a tiny random model and the two smallest points of each curve.
    """
    folder = out or Path("runs/bench") / f"scaling-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with tempfile.TemporaryDirectory() as temporary:
        if quick:
            model, repetitions = str(save_tiny(Path(temporary))), 1
        few = 2 if quick else None
        dtype = pick_dtype("auto")
        about = describe()
        matmul = Matmul(dtype)
        before = matmul.flops_per_s()
        with ExitStack() as stack:
            bares = {
                count: stack.enter_context(closing(_bare(model, dtype, count)))
                for count in PROBES[:few]
            }
            curves = {
                "candidates": in_turns(CANDIDATES[:few], repetitions, of_candidates(bares[0])),
                "context": in_turns(CONTEXTS[:few], repetitions, of_context(bares[0])),
                "probes": in_turns(PROBES[:few], repetitions, of_probes(bares)),
            }
        log = folder / "server.log"
        curves["depth"] = of_depth(model, dtype, DEPTHS[:few], repetitions, log)
    rates = [before, matmul.flops_per_s()]
    result = about | {"model": model, "dtype": dtype, "matmul_flops_per_s": rates}
    result |= {"repetitions": repetitions, "curves": curves}
    folder.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    (folder / "scaling.json").write_bytes(orjson.dumps(result, option=options))
    (folder / "scaling.svg").write_text(figure(curves), encoding="utf-8")
    last = {"result": str(folder / "scaling.json"), "dtype": dtype, "medians": medians(curves)}
    print(orjson.dumps(last, option=orjson.OPT_NON_STR_KEYS).decode())


def _bare(model: str, dtype: Dtype, num_probes: int) -> Bare:
    return Bare(load_reward_model(model, dtype=dtype), num_probes)


def in_turns(
    points: Sequence[int], repetitions: int, measure: Callable[[int, int], Mapping[str, float]]
) -> Curve:
    """Measure every point in each of `repetitions` rounds, after a round that only warms up."""
    curve: Curve = {}
    for repetition in range(-1, repetitions):
        for point in points:
            found = measure(point, repetition)
            for name, value in found.items() if repetition >= 0 else ():
                curve.setdefault(name, {}).setdefault(point, []).append(value)
                say(f"{name} at {point}: {value:.4g}")
    return curve


def group(
    seed: object, vocabulary: int, context: int, responses: int, length: int = RESPONSE
) -> list[Item]:
    """One context and its responses, as random token ids; lengths are in tokens."""
    draw = random.Random(f"{seed}")

    def random_ids(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(count))

    shared = random_ids(context)
    return [Item(shared + random_ids(length), context, context + length) for _ in range(responses)]


def of_candidates(bare: Bare) -> Callable[[int, int], dict[str, float]]:
    """Time of N responses of 64 tokens to one context of 256."""

    def measure(count: int, repetition: int) -> dict[str, float]:
        items = group(("n", count, repetition), _vocabulary(bare), CONTEXT, count)
        answer = bare.score_items(items)
        return {
            "seconds": answer["seconds"],
            "seconds_per_candidate": answer["seconds"] / count,
            "computed_tokens": answer["num_computed_tokens"],
        }

    return measure


def of_context(bare: Bare) -> Callable[[int, int], dict[str, float]]:
    """Time of 4 responses of 64 tokens to one context of N tokens."""

    def measure(length: int, repetition: int) -> dict[str, float]:
        items = group(("context", length, repetition), _vocabulary(bare), length, 4)
        seconds = bare.score_items(items)["seconds"]
        return {"seconds": seconds, "seconds_per_token": seconds / (length + 4 * RESPONSE)}

    return measure


def of_probes(bares: Mapping[int, Bare]) -> Callable[[int, int], dict[str, float]]:
    """Time of a group of 16 responses with N probes, evenly spread over the layers."""

    def measure(count: int, repetition: int) -> dict[str, float]:
        # The same tokens for every count: only the probes differ.
        items = group(("probes", repetition), _vocabulary(bares[count]), CONTEXT, 16)
        return {"seconds": bares[count].score_items(items)["seconds"]}

    return measure


def of_depth(model: str, dtype: str, depths: Sequence[int], repetitions: int, log: Path) -> Curve:
    """Scores per second of a server while N single requests wait, each with a text of its own."""
    (arm, *_) = all_arms(model, [], dtype)

    def texts(count: int, *seed: object) -> list[workloads.BenchText]:
        return workloads.draw("open", ("depth", *seed), count, lambda words: f"{words}\n")

    with bring_up(arm, log, texts(8)) as live, live.awake():

        def measure(depth: int, repetition: int) -> dict[str, float]:
            sent = texts(max(16, 3 * depth), depth, repetition)
            load = asyncio.run(closed_loop(live.running.url, CANDOR, sent, depth))
            waits = [request.done - request.sent for request in load.requests]
            return {
                "scores_per_s": len(load.rewards) / load.seconds,
                "seconds_per_request": statistics.median(waits),
            }

        return in_turns(depths, repetitions, measure)


def _vocabulary(bare: Bare) -> int:
    return int(bare.model.model.config.get_text_config().vocab_size)


def medians(curves: Mapping[str, Curve]) -> dict[str, dict[str, dict[int, float]]]:
    """The curves with the median of each point in place of its values."""
    return {
        curve: {
            name: {point: statistics.median(values) for point, values in points.items()}
            for name, points in figures.items()
        }
        for curve, figures in curves.items()
    }


PANELS = (
    ("candidates", "seconds", "candidates of one context", "s per group"),
    ("context", "seconds", "context, tokens (4 responses)", "s per group"),
    ("probes", "seconds", "probes (16 responses)", "s per group"),
    ("depth", "scores_per_s", "single requests waiting", "scores/s"),
)


def figure(curves: Mapping[str, Curve]) -> str:
    """The four curves as SVG: medians as lines, a dot per repetition."""
    drawn = Figure(figsize=(6.8, 4.6))
    for axis, (curve, name, below, beside) in zip(drawn.subplots(2, 2).flat, PANELS, strict=True):
        points = curves[curve][name]
        middle = [statistics.median(values) for values in points.values()]
        axis.plot(list(points), middle, color=ORANGE if name == "seconds" else BLUE)
        for point, values in points.items():
            axis.plot([point] * len(values), values, ".", color=GREY)
        axis.set_xlabel(below)
        axis.set_ylabel(beside)
        axis.set_ylim(bottom=0)
    drawn.tight_layout()
    return str(svg(drawn))


if __name__ == "__main__":
    app()
