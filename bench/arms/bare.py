"""The packed engine without a server: texts on stdin, seconds on stdout.

The difference to a server's time is the cost of HTTP, JSON and tokenising. Batches and workers are
those of the server (`candor.batching.batcher`). All items are tokenised before the clock starts.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Literal

import orjson
import torch
from cyclopts import App

from candor import logs
from candor.batching.batcher import Batcher
from candor.engines.choose import build_engine
from candor.engines.prefix_cache import PrefixCache
from candor.engines.threads import choose_num_workers, threads_for
from candor.item import Item
from candor.models.load import RewardModel, load_reward_model
from candor.probes.probe import Probe
from candor.settings import Settings
from candor.text.request import Text


def spread_probes(num_layers: int, hidden_size: int, count: int) -> list[Probe]:
    """`count` random probes at layers that are evenly spread."""
    draw = torch.Generator().manual_seed(0)
    return [
        Probe(
            name=f"random-{number}",
            weight=torch.randn(hidden_size, generator=draw) / hidden_size**0.5,
            bias=0.0,
            layer=round(num_layers * (number + 1) / count),
        )
        for number in range(count)
    ]


class Bare:
    """One model and one engine with `num_probes` random probes. Workers, token budget and prefix
    cache have a server's defaults."""

    def __init__(self, model: RewardModel, num_probes: int) -> None:
        defaults = Settings(model=model.id)
        self.model = model
        self.engine = build_engine(
            "packed",
            model.model,
            spread_probes(model.num_layers, model.hidden_size, num_probes),
            device=model.device,
            prefix_cache=PrefixCache(int(defaults.prefix_cache_mb * 2**20)),
        )
        self._renderer = model.renderer()
        self._runner = asyncio.Runner()
        on_cpu = model.device == "cpu"
        num_workers = choose_num_workers(None, model.model, on_cpu=on_cpu)
        self._batcher = Batcher(
            self.engine,
            max_batch_tokens=defaults.max_batch_tokens,
            max_queue_tokens=sys.maxsize,
            num_workers=num_workers,
            before_batch=threads_for(num_workers) if on_cpu else None,
        )
        self._runner.run(self._start())

    async def _start(self) -> None:
        self._batcher.start()

    def score(self, texts: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """As `score_items`, for (context, response) pairs."""
        return self.score_items(
            [self._renderer.encode(Text(context), response) for context, response in texts]
        )

    def score_items(self, items: Sequence[Item]) -> dict[str, Any]:
        """Seconds, base rewards in order, and the numbers of tokens: sent and computed."""
        began = time.perf_counter()
        scored = self._runner.run(self._batcher.submit(items, deadline=None))
        return {
            "seconds": time.perf_counter() - began,
            "rewards": [item.score.base_reward for item in scored],
            "num_tokens": sum(item.num_tokens for item in items),
            "num_computed_tokens": sum(item.num_computed_tokens for item in scored),
        }

    def close(self) -> None:
        """Stop the workers."""
        self._batcher.close()
        self._runner.close()


app = App(name="python -m bench.arms.bare")


@app.default
def serve_pipe(
    *, model: str, dtype: Literal["float32", "bfloat16", "float16"], probes: int = 0
) -> None:
    """Score lines of stdin. A line is JSON, [[context, response], ...]; its answer is a line too.

    A first line, before any request, says that the engine is ready.

    Parameters
    ----------
    model
        Folder of the reward model.
    dtype
        Dtype of the weights.
    probes
        Number of random probes to read.
    """
    logs.configure("WARNING")  # to stderr: stdout is the pipe
    with closing(Bare(load_reward_model(model, dtype=dtype), probes)) as bare:
        _say({"engine": bare.engine.name})
        for line in sys.stdin.buffer:
            _say(bare.score([(context, response) for context, response in orjson.loads(line)]))


def _say(value: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    app()
