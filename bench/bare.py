"""The packed engine without a server: texts on stdin, seconds on stdout.

What HTTP, JSON, tokenising and the queue cost is the difference to this. Batches are taken as the
server takes them (`service.batch.take_batch`), one after the other; the texts are tokenised before
the clock starts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import orjson
import torch

from probes.probe import Probe
from service.batch import Item, take_batch
from service.engines import build_engine
from service.model import RewardModel, load_reward_model
from service.render import Renderer

MAX_BATCH_TOKENS = 8192
"""The server's own default."""


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
    """One model, one engine, `num_probes` random probes; nothing else."""

    def __init__(self, model: RewardModel, num_probes: int) -> None:
        probes = spread_probes(model.num_layers, model.hidden_size, num_probes)
        self.model = model
        self.engine = build_engine("packed", model.model, probes, device=model.device)
        self._renderer = Renderer(model.tokenizer, max_length=model.max_length, ending=model.ending)

    def score(self, texts: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """`score_items` of (context, response) pairs."""
        return self.score_items(
            [self._renderer.encode(context, response) for context, response in texts]
        )

    def score_items(self, items: Sequence[Item]) -> dict[str, Any]:
        """Rewards in order, tokens as sent and as computed, and the engine's seconds."""
        rewards: list[float] = []
        num_computed = 0
        began = time.perf_counter()
        while len(rewards) < len(items):
            rest = items[len(rewards) :]
            count = take_batch(rest, MAX_BATCH_TOKENS, self.engine.cost)
            result = self.engine.score(rest[:count])
            rewards += [score.base_reward for score in result.scores]
            num_computed += result.num_computed_tokens
        return {
            "seconds": time.perf_counter() - began,
            "rewards": rewards,
            "num_tokens": sum(item.num_tokens for item in items),
            "num_computed_tokens": num_computed,
        }


def main() -> None:
    """One line of JSON a request: `[[context, response], ...]`; one line back, and one at start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of the reward model")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], required=True)
    parser.add_argument("--probes", type=int, default=0, help="how many random probes to read")
    flags = parser.parse_args()
    bare = Bare(load_reward_model(flags.model, dtype=flags.dtype), flags.probes)
    _say({"engine": bare.engine.name})
    for line in sys.stdin.buffer:
        _say(bare.score([(context, response) for context, response in orjson.loads(line)]))


def _say(value: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
