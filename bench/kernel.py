"""One forward pass on one CPU thread, compared with the rate of this machine's matrix products.

    python -m bench.kernel --model build/demo/model

The first table has the attention of one layer, over five shapes: the compiled kernel, then torch.
The second table has whole forward passes: attention by torch or by the compiled kernel, in
transformers' blocks or in ours. The arms take turns; times are medians of the thread's CPU time.

A product of 2048 x 2048 float32 matrices is timed beside the arms (mm). Attention is given as a
share of its FLOP/s. A forward pass is given in tokens/s, and as a share of the tokens/s that its
linear layers alone would reach at that rate.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from cyclopts import App
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
"""Tokens per context, tokens per response (give or take a quarter), responses per group, groups."""


app = App(name="python -m bench.kernel")


@app.default
def compare_kernels(*, model: str, rounds: int = 5) -> None:
    """Compare the compiled attention kernel with torch, on one CPU thread.

    Parameters
    ----------
    model
        Folder of the reward model.
    rounds
        Number of times that each arm is measured.
    """
    torch.set_num_threads(1)
    kernel = native.kernel()
    if kernel is None:
        sys.exit("bench.kernel: no native kernel here (see forward/candor/forward/native.py)")
    trunk = load_reward_model(model, device="cpu", dtype="float32").model
    print("| attention | T | compiled ms | torch ms | compiled / mm rate | torch / mm rate |")
    for name in SHAPES:
        print(attention_row(name, trunk.config, kernel, rounds))
    print("| forward | T | arm: tokens/s (share of the linear layers' limit) |")
    for name in ("A", "E"):
        print(forward_row(name, trunk, kernel, rounds))


def sequences(name: str) -> list[tuple[int, ...]]:
    """Random token ids of one shape: each response after the context of its group."""
    context, response, count, groups = SHAPES[name]
    draw = random.Random(0)

    def random_ids(length: int) -> tuple[int, ...]:
        return tuple(draw.randrange(40_000) for _ in range(length))

    low, high = -response // 4, response // 4
    return [
        prompt + random_ids(response + draw.randint(low, high))
        for prompt in (random_ids(context) for _ in range(groups))
        for _ in range(count)
    ]


def attention_row(name: str, config: Any, kernel: Kernel, rounds: int) -> str:
    """A row of the first table."""
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
    """Number of (query, key) pairs in which the query may attend to the key."""
    return sum(position + 1 for position in layout.positions)


def forward_row(name: str, model: Any, kernel: Kernel, rounds: int) -> str:
    """A row of the second table."""
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
    """Attention by this kernel from now on; by torch if None."""
    native.kernel = lambda: kernel  # type: ignore[assignment]


def in_turns(arms: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median CPU seconds per arm, and under "mm" the FLOP/s of the matrix product."""
    matrix: Tensor = torch.randn(2048, 2048)
    every: dict[str, Callable[[], Any]] = {**arms, "mm": lambda: matrix @ matrix}
    taken: dict[str, list[float]] = {arm: [] for arm in every}
    for _ in range(rounds):
        for arm, run in every.items():
            began = time.thread_time()
            run()
            taken[arm].append(time.thread_time() - began)
    found = {arm: statistics.median(times) for arm, times in taken.items()}
    return found | {"mm": 2 * 2048**3 / found["mm"]}


if __name__ == "__main__":
    app()
