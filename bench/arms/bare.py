"""The packed engine without a server: texts on stdin, seconds on stdout.

What HTTP, JSON and tokenising cost is the difference to this. Batches and workers are the server's
own (`candor.batching.batcher`); all items are there at once, and tokenised before the clock starts.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import orjson
import torch

from candor import logs
from candor.batching.batcher import Batcher
from candor.engines.choose import build_engine
from candor.engines.prefix_cache import PrefixCache
from candor.engines.threads import num_workers, threads_for
from candor.item import Item
from candor.models.load import RewardModel, load_reward_model
from candor.probes.probe import Probe
from candor.settings import Settings
from candor.text.render import Renderer
from candor.text.request import Text


def spread_probes(num_layers: int, hidden_size: int, count: int) -> list[Probe]:
    """`count` random probes, evenly over the layers."""
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
    """One model, one engine with `num_probes` random probes, and what a server has by default of
    workers, budget and prefix cache."""

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
        self._renderer = Renderer(model.tokenizer, max_length=model.max_length, ending=model.ending)
        self._runner = asyncio.Runner()
        on_cpu = model.device == "cpu"
        workers = num_workers(None, model.model, on_cpu=on_cpu)
        self._batcher = Batcher(
            self.engine,
            max_batch_tokens=defaults.max_batch_tokens,
            max_queue_tokens=sys.maxsize,
            max_queue_wait_s=math.inf,
            workers=workers,
            before_batch=threads_for(workers) if on_cpu else None,
        )
        self._runner.run(self._start())

    async def _start(self) -> None:
        self._batcher.start()

    def score(self, texts: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """`score_items` of (context, response) pairs."""
        return self.score_items(
            [self._renderer.encode(Text(context), response) for context, response in texts]
        )

    def score_items(self, items: Sequence[Item]) -> dict[str, Any]:
        """Rewards in order, tokens as sent and as computed, and the seconds they took."""
        began = time.perf_counter()
        scored = self._runner.run(self._batcher.submit(items, deadline=None))
        return {
            "seconds": time.perf_counter() - began,
            "rewards": [one.score.base_reward for one in scored],
            "num_tokens": sum(item.num_tokens for item in items),
            "num_computed_tokens": sum(one.num_computed_tokens for one in scored),
        }

    def close(self) -> None:
        """Ends the workers."""
        self._batcher.close()
        self._runner.close()


def main() -> None:
    """One line of JSON a request: `[[context, response], ...]`; one line back, and one at start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of the reward model")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], required=True)
    parser.add_argument("--probes", type=int, default=0, help="how many random probes to read")
    flags = parser.parse_args()
    logs.configure("WARNING")  # to stderr: stdout is the pipe
    with closing(Bare(load_reward_model(flags.model, dtype=flags.dtype), flags.probes)) as bare:
        _say({"engine": bare.engine.name})
        for line in sys.stdin.buffer:
            _say(bare.score([(context, response) for context, response in orjson.loads(line)]))


def _say(value: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
