"""The engine for reward models larger than one GPU: vLLM, with tensor and pipeline parallelism and
vLLM's prefix cache, in processes of its own.

The server keeps the tokeniser, the head and the probes. vLLM gets token ids, and returns R and each
probe's logit for every response token (`candor.engines.vllm.model`). `candor.engines.readings`
makes scores of them, as for the other engines. vLLM must be installed in the server's own
environment (extra `vllm`), and all processes run on one machine.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from candor.engines.readings import LayerProbes, by_layer, readings
from candor.engines.vllm.client import VllmClient
from candor.engines.vllm.plugin import FAMILIES, READINGS_FILE, RESPONSE_START, architecture
from candor.forward.capture import num_hidden_layers
from candor.forward.company import Company
from candor.forward.prefix import count_distinct
from candor.item import BatchResult, Engine, Item, Score
from candor.models.causes import cause_of
from candor.models.checkpoint import ModelRefused, read_config, read_tensors
from candor.models.heads import NEVER_LOADED, find_head, head_names
from candor.models.load import RewardModel
from candor.probes.probe import Probe

DEFAULT_WORKERS = 8
"""Batches in vLLM at once, by default. With several, vLLM's next step takes what has arrived since
the last step, and does not wait until a batch is answered completely."""

MAX_INFLIGHT_BATCHES = 2
"""Most tokens in vLLM at once, as a multiple of `max_batch_tokens`. Tokens in vLLM are computed
even if their caller has left."""

CPU_ARGUMENTS = {"block_size": 32, "kv_cache_memory_bytes": 2 * 2**30}
"""vLLM's own are 128 tokens (a shared context ends on a block boundary) and half of the memory."""


class VllmEngine(Engine):
    """Scores items on a running vLLM, which computes the calls of several threads together.

    Args:
        vllm: runs one of the models of `candor.engines.vllm.model`.
        model: the reward model; its trunk's weights may be on the meta device.
        probes: names are distinct; layers index `hidden_states` (0 = embeddings).

    Raises:
        ValueError: two probes share a name, or a probe's layer is not one of the model's.
    """

    name = "vllm"
    reason = "asked for"

    def __init__(self, vllm: VllmClient, model: RewardModel, probes: Sequence[Probe]) -> None:
        self._vllm = vllm
        self._layers = by_layer(model.model, probes, torch.device("cpu"))
        self._num_readings = len(probes) + 1

    @property
    def alive(self) -> bool:
        """Whether vLLM's processes run. They are never started again."""
        return self._vllm.alive

    def costs(self, items: Iterable[Item]) -> Iterator[int]:
        """Distinct tokens: what vLLM would compute if its cache had no block boundaries."""
        return count_distinct(item.sort_key for item in items)

    def score(self, items: Sequence[Item], *, shared: bool = True) -> BatchResult:
        """Scores `items`; equal items are computed once.

        Args:
            shared: whether contexts may come from the prefix cache.

        Raises:
            vllm.v1.engine.exceptions.EngineDeadError: vLLM's processes have ended; every further
                call raises it too.
            RuntimeError: a response token has no reading.
        """
        starts: dict[tuple[int, ...], int] = {}
        for item in items:
            first = starts.get(item.token_ids, item.response_start)
            starts[item.token_ids] = min(first, item.response_start)
        outputs = self._encode(starts, shared)
        rows = {
            ids: rows_by_position(output.outputs.data, start, len(ids), self._num_readings)
            for (ids, start), output in zip(starts.items(), outputs, strict=True)
        }
        cached = sum(output.num_cached_tokens for output in outputs)
        return BatchResult(
            scores=self._scores(items, starts, rows),
            num_computed_tokens=sum(map(len, starts)) - cached,
        )

    def read_probes(self, probes: Sequence[Probe]) -> None:
        """Refuses: vLLM's processes get the probes when they start, and their layers are compiled
        into its graph."""
        raise ValueError(
            "--engine vllm gives its processes the probes when they start: start the server again "
            "with the new folder as --probe"
        )

    def close(self) -> None:
        """Ends vLLM's processes. Nothing may be scored afterwards."""
        self._vllm.close()

    def _encode(self, starts: Mapping[tuple[int, ...], int], shared: bool) -> list[Any]:
        from vllm import PoolingParams

        params = [
            PoolingParams(
                task="token_classify",
                # By default vLLM reads no cache in a task of single tokens.
                skip_reading_prefix_cache=not shared,
                extra_kwargs={RESPONSE_START: start},
            )
            for start in starts.values()
        ]
        return self._vllm.encode(list(starts), params)

    def _scores(
        self,
        items: Sequence[Item],
        starts: Mapping[tuple[int, ...], int],
        rows: Mapping[tuple[int, ...], Tensor],
    ) -> list[Score]:
        found = []
        for item in items:
            start = starts[item.token_ids]
            found.append(
                rows[item.token_ids][item.response_start - start : item.response_end - start]
            )
        all_tokens = torch.cat(found)
        logits, column = {}, 0
        for index, layer in self._layers.items():
            logits[index] = all_tokens[:, column : column + len(layer.probes)]
            column += len(layer.probes)
        rewards = [rows[item.token_ids][-1, -1].item() for item in items]
        return [
            Score(base_reward=reward, readings=reading)
            for reward, reading in zip(rewards, readings(items, self._layers, logits), strict=True)
        ]


def rows_by_position(rows: Tensor, start: int, end: int, num_readings: int) -> Tensor:
    """vLLM's rows [n, 1 + readings], position first -> readings in order, [end - start, readings].

    Raises:
        RuntimeError: a position in [start, end) is missing.
    """
    positions = rows[:, 0].long() - start
    found = torch.zeros(end - start, num_readings)
    seen = torch.zeros(end - start, dtype=torch.bool)
    seen[positions] = True
    if not bool(seen.all()):
        raise RuntimeError(f"vLLM gave no reading for {int((~seen).sum())} response tokens")
    found[positions] = rows[:, 1:]
    return found


def start(
    model: RewardModel,
    probes: Sequence[Probe],
    *,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    arguments: Mapping[str, Any] | None = None,
) -> VllmEngine:
    """Starts vLLM on the files of `model`, in its dtype.

    Args:
        arguments: further arguments of vLLM's engine, by name; none of `settings.SET_BY_CANDOR`.

    Raises:
        ModelRefused: vLLM is not installed or does not run the model; the message gives the reason
            or points to vLLM's own log.
        ValueError: two probes share a name, or a probe's layer is not one of the model's.
    """
    model_type = model.model.config.get_text_config().model_type
    if model_type not in FAMILIES:
        raise ModelRefused(
            f"--engine vllm runs {', '.join(sorted(FAMILIES))}, and this model is a {model_type}: "
            "serve it with --engine packed"
        )
    if Company(model.model).changes_model:
        raise ModelRefused(
            "--engine vllm: this model's rotary frequencies depend on the longest text of a batch "
            "(LongRoPE or dynamic NTK), which vLLM does not follow: serve it with --engine packed"
        )
    _check_installed()
    _set_environment(tensor_parallel_size * pipeline_parallel_size)
    layers = by_layer(model.model, probes, torch.device("cpu"))
    chosen: dict[str, Any] = {
        "model": str(model.folder),
        "runner": "pooling",
        "dtype": model.dtype,
        "max_model_len": model.max_length,
        "tensor_parallel_size": tensor_parallel_size,
        "pipeline_parallel_size": pipeline_parallel_size,
        "enable_prefix_caching": True,
        **({} if torch.cuda.is_available() else CPU_ARGUMENTS),
        **(arguments or {}),
        "hf_overrides": {
            "architectures": [architecture(model_type)],
            "candor_heads": _head_tensors(model.folder),
            # The compiled graph depends on the layers, and the name of vLLM's compile cache on this
            # entry.
            "candor_layers": sorted(layers),
        },
        "scheduler_cls": "candor.engines.vllm.scheduler.ContextCacheScheduler",
        "async_scheduling": False,
        "trust_remote_code": False,
    }
    with _readings_file(model, layers):
        try:
            return VllmEngine(_connect(chosen), model, probes)
        except Exception as error:
            raise ModelRefused(
                f"vLLM does not start: {cause_of(error)}; its own lines above say more"
            ) from error


def _connect(arguments: Mapping[str, Any]) -> VllmClient:
    from vllm.config import PoolerConfig

    return VllmClient({**arguments, "pooler_config": PoolerConfig(task="token_classify")})


def _check_installed() -> None:
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise ModelRefused(
            "--engine vllm: vLLM is not installed in this environment: pip install "
            "'candor-rewards[server,vllm]', or on a CPU sh docker/install-vllm.sh DIRECTORY"
        )
    names = {point.name for point in entry_points(group="vllm.general_plugins")}
    if "candor" not in names:
        raise ModelRefused(
            "--engine vllm: this installation of candor-rewards has no plugin for vLLM: install it "
            "again"
        )


def _set_environment(num_workers: int) -> None:
    """Settings that vLLM only reads from the environment; values set by the user stay."""
    wanted = {
        "VLLM_NO_USAGE_STATS": "1",
        # The server has threads, and a fork copies the threads' locks but not the threads.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # In this process vLLM's log lines become JSON like the server's; vLLM's own processes write
        # warnings as plain text.
        "VLLM_CONFIGURE_LOGGING": "0",
    }
    if not torch.cuda.is_available():
        # By default vLLM leaves one core free, and uses one of two threads of a core.
        wanted["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
        if num_workers == 1:
            cores = sorted(os.sched_getaffinity(0))
            wanted["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"))


def _head_tensors(folder: Path) -> list[str]:
    """The checkpoint's tensors that vLLM must not load."""
    tensors = read_tensors(folder)
    return sorted(head_names(find_head(tensors, read_config(folder)), tensors) | NEVER_LOADED)


@contextmanager
def _readings_file(model: RewardModel, layers: Mapping[int, LayerProbes]) -> Iterator[None]:
    """While vLLM starts, a file for `candor.engines.vllm.model.Readings`: the probes by layer, then
    R."""
    head: Any = model.model.score
    ordered = [probe for layer in layers.values() for probe in layer.probes]
    bias = torch.zeros(1) if head.bias is None else head.bias.detach().float().cpu()
    tensors = {
        "weight": torch.cat(
            [*(probe.weight.cpu()[None] for probe in ordered), head.weight.detach().float().cpu()]
        ),
        "bias": torch.cat([torch.tensor([probe.bias for probe in ordered]), bias]),
        "layer": torch.tensor([*(p.layer for p in ordered), num_hidden_layers(model.model)]),
    }
    with tempfile.TemporaryDirectory(prefix="candor-") as folder:
        path = Path(folder) / "readings.safetensors"
        save_file(tensors, path)
        os.environ[READINGS_FILE] = str(path)
        try:
            yield
        finally:
            del os.environ[READINGS_FILE]
