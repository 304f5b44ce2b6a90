"""Run by .venv-vllm's Python: the scores of several reward models, one vLLM after the other, as one
line of JSON.

usage: families.py PROBES.safetensors FOLDER...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from vllm import ModelRegistry
from vllm.plugins import load_general_plugins

from candor.engines.check import check_items
from candor.engines.vllm import engine as vllm_engine
from candor.engines.vllm import model as vllm_model
from candor.engines.vllm.plugin import FAMILIES, architecture
from candor.models.load import load_reward_model
from candor.probes.probe import Probe


def scores(folder: Path, probes: list[Probe]) -> dict[str, object]:
    """`turns` is [turns][items][R, S, ...]: without the prefix cache, filling it, reading it."""
    model = load_reward_model(str(folder), device="cpu", dtype="float32", trunk=False)
    # Less than the items have, so that they are computed in several steps, some of them in two.
    arguments = {"enforce_eager": True, "max_num_batched_tokens": 64, "max_num_seqs": 8}
    arguments |= {"kv_cache_memory_bytes": 2**26}
    engine = vllm_engine.start(model, probes, arguments=arguments)
    items = check_items(model.model.config.vocab_size)
    turns = [engine.score(items, shared=shared) for shared in (False, True, True)]
    engine.close()
    return {
        "turns": [
            [
                [one.base_reward, *(one.readings[probe.name].score for probe in probes)]
                for one in turn.scores
            ]
            for turn in turns
        ],
        "computed": [turn.num_computed_tokens for turn in turns],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    # A class that is named only is looked at in a process of its own, which takes as long as all of
    # the rest.
    load_general_plugins()
    for name in map(architecture, FAMILIES):
        ModelRegistry.register_model(name, getattr(vllm_model, name))
    read = [Probe(name, weight, 0.5, int(name)) for name, weight in load_file(sys.argv[1]).items()]
    print(json.dumps([scores(Path(folder), read) for folder in sys.argv[2:]]))
