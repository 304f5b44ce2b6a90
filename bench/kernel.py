"""One forward on one CPU thread, as shares of this machine's own matrix product.

    python -m bench.kernel --model build/demo/model

Two tables, in one run: attention of one layer over five shapes (compiled kernel, then torch), and
whole forwards (torch or compiled, transformers' blocks or ours). Times are CPU time of the thread,
arms in turns, medians; a product of 2048 x 2048 float32 matrices is timed beside them. The share of
a forward is tokens/s over what that rate allows its linear layers alone. No server, no threads.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from candor.engines.packed import PackedEngine
from candor.forward import blocks, native
from candor.forward.head import decoder, decoder_blocks
from candor.forward.native import Kernel
from candor.forward.packed_attention import PackedLayout, packed_attention
from candor.forward.prefix import Layout, lay_out
from candor.item import Item
from candor.models.load import load_reward_model

SHAPES = {"A": (250, 60, 12, 1), "B": (500, 100, 16, 1), "C": (512, 220, 16, 1),
          "D": (300, 60, 14, 4), "E": (0, 216, 20, 1)}  # fmt: skip
"""Tokens of the context, of a response (give or take a quarter), responses, groups."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.kernel")
    parser.add_argument("--model", required=True, help="folder of a reward model")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    kernel = native.kernel()
    if kernel is None:
        parser.exit(
            1, "bench.kernel: no native kernel here (see forward/candor/forward/native.py)\n"
        )
    model = load_reward_model(given.model, device="cpu", dtype="float32").model
    print("| attention | T | compiled ms | torch ms | compiled / mm rate | torch / mm rate |")
    for name in SHAPES:
        print(attention_row(name, model.config, kernel, given.rounds))
    print("| forward | T | arm: tokens/s (share of the linear layers' limit) |")
    for name in ("A", "E"):
        print(forward_row(name, model, kernel, given.rounds))


def sequences(name: str) -> list[tuple[int, ...]]:
    context, response, count, groups = SHAPES[name]
    draw = random.Random(0)

    def some(length: int) -> tuple[int, ...]:
        return tuple(draw.randrange(40_000) for _ in range(length))

    low, high = -response // 4, response // 4
    return [
        prompt + some(response + draw.randint(low, high))
        for prompt in (some(context) for _ in range(groups))
        for _ in range(count)
    ]


def attention_row(name: str, config: Any, kernel: Kernel, rounds: int) -> str:
    layout = lay_out(sequences(name))
    heads, shared, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    query, key, value = (
        torch.randn(1, layout.num_tokens, n, size).transpose(1, 2) for n in (heads, shared, shared)
    )
    packed = PackedLayout(layout, torch.device("cpu"))

    def attend(by: Kernel | None) -> None:
        use(by)
        packed_attention(
            nn.Identity(), query, key, value, None, scaling=size**-0.5, packed_layout=packed
        )

    found = in_turns({"compiled": lambda: attend(kernel), "torch": lambda: attend(None)}, rounds)
    flops = 4 * heads * size * _pairs(layout)
    shares = [flops / found[arm] / found["mm"] for arm in ("compiled", "torch")]
    times = [1000 * found[arm] for arm in ("compiled", "torch")]
    return (
        f"| {name} | {layout.num_tokens} | {times[0]:.1f} | {times[1]:.1f} | {shares[0]:.2f} "
        f"| {shares[1]:.2f} |"
    )


def _pairs(layout: Layout) -> int:
    """(query, key) pairs that see one another."""
    return sum(position + 1 for position in layout.positions)


def forward_row(name: str, model: Any, kernel: Kernel, rounds: int) -> str:
    engine = PackedEngine(model, [], device="cpu")
    items = [Item(ids, len(ids) - 1, len(ids)) for ids in sequences(name)[:12]]

    def run(by: Kernel | None, own: bool) -> None:
        use(by)
        blocks.give_back(model)
        if own:
            blocks.take_over(model)
        engine.score(items)

    arms = {
        "torch": lambda: run(None, False),
        "torch, own blocks": lambda: run(None, True),
        "compiled": lambda: run(kernel, False),
        "compiled, own blocks": lambda: run(kernel, True),
    }
    found, tokens = in_turns(arms, rounds), [*engine.costs(items)][-1]
    layers = [m for block in decoder_blocks(decoder(model)) for m in block.modules()]
    weights = sum(m.weight.numel() for m in layers if isinstance(m, nn.Linear))
    limit = found["mm"] / (2 * weights)
    text = (f"{arm}: {tokens / found[arm]:.0f} ({tokens / found[arm] / limit:.2f})" for arm in arms)
    return f"| {name} | {tokens} | {'; '.join(text)} |"


def use(kernel: Kernel | None) -> None:
    native.kernel = lambda: kernel  # type: ignore[assignment]


def in_turns(arms: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each arm, and under "mm" the matrix product's FLOP/s."""
    one: Tensor = torch.randn(2048, 2048)
    every: dict[str, Callable[[], Any]] = {**arms, "mm": lambda: one @ one}
    taken: dict[str, list[float]] = {arm: [] for arm in every}
    for _ in range(rounds):
        for arm, run in every.items():
            began = time.thread_time()
            run()
            taken[arm].append(time.thread_time() - began)
    found = {arm: statistics.median(times) for arm, times in taken.items()}
    return found | {"mm": 2 * 2048**3 / found["mm"]}


if __name__ == "__main__":
    main()
