"""What the server was asked to do: one frozen `Settings`, checked once, before anything is loaded.

Not a parser: the flags and environment variables are read by cyclopts in `serve.py`. What can only
be known once the probes' cards are read (which names exist) is checked by `check_names`.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from candor.probes.combine import Combination, CombinationKind
from candor.trainers.options import TrainerRoutes
from candor.watch.drift import DEFAULT_WINDOW, MAX_WINDOW
from candor.watch.drift_reference import MIN_WINDOW

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

SET_BY_CANDOR = frozenset(
    {
        "additional_config",
        "async_scheduling",
        "convert",
        "dtype",
        "enable_prefix_caching",
        "hf_overrides",
        "max_model_len",
        "model",
        "pipeline_parallel_size",
        "pooler_config",
        "runner",
        "scheduler_cls",
        "tensor_parallel_size",
        "tokenizer",
        "trust_remote_code",
    }
)
"""vLLM's engine arguments that follow from the model, the probes and other flags."""


CPU = ("auto", "cpu")


class SettingsError(ValueError):
    """A setting that cannot be right; the message names the flag and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything `candor serve` can be told. Sizes in tokens, times in seconds.

    Raises:
        SettingsError: at construction, for a value out of range or an address open to the network
            without a key.
    """

    model: str
    revision: str | None = None
    probes: tuple[str, ...] = ()
    """Folders of probe artefacts whose scores are returned."""
    penalties: Mapping[str, float] = field(default_factory=dict)
    """lambda by probe name, reward units per logit."""
    kappas: Mapping[str, float] = field(default_factory=dict)
    """kappa by probe name; becomes lambda through the card's calibration."""
    monitors: tuple[str, ...] = ()
    """Folders of probes that are measured and never returned or penalised."""
    combine: CombinationKind = "sum"
    """How several probes' terms make one penalty."""
    spread_weight: float | None = None
    """For `spread` only; None is its default."""
    host: str = "127.0.0.1"
    port: int = 8000
    host_names: tuple[str, ...] = ()
    """DNS names, beside `localhost`, that a Host header may carry."""
    device: str = "auto"
    dtype: Dtype = "auto"
    engine: Literal["packed", "padded", "vllm"] = "packed"
    tensor_parallel_size: int = 1
    """Of vLLM: devices that share every layer."""
    pipeline_parallel_size: int = 1
    """Of vLLM: groups of devices that have some of the layers each."""
    vllm_args: Mapping[str, Any] = field(default_factory=dict)
    """More of vLLM's engine arguments, by name."""
    max_batch_tokens: int = 8192
    max_queue_tokens: int = 1_048_576
    workers: int | None = None
    """Batches that run at once; None is one a core on a CPU, one on a GPU, and a few in vLLM."""
    prefix_cache_mb: float = 256.0
    """MiB of keys and values of contexts, on the model's device; 0 keeps none."""
    served_model_name: str | None = None
    api_key: str | None = field(default=None, repr=False)
    operator_key: str | None = field(default=None, repr=False)
    """Of `/metrics` and `/v1/drift`; None leaves them to the API key."""
    insecure_no_auth: bool = False
    request_timeout_s: float = 95.0
    """Deadline of a request that states none: under the 100 s at which the first trainers give
    up."""
    watchdog_s: float = 60.0
    """A forward that takes longer makes the server not ready."""
    drain_s: float = 30.0
    """From SIGTERM to the end, at most."""
    drift_window: int = DEFAULT_WINDOW
    """Responses; 0 is no drift statistics at all."""
    drift_reference: Path | None = None
    trainers: TrainerRoutes = field(default_factory=TrainerRoutes)

    def __post_init__(self) -> None:
        if not self.model:
            raise SettingsError("--model: give a folder or a hub id of a reward model")
        if not 0 <= self.port <= 65_535:
            raise SettingsError(f"--port {self.port}: must be between 0 and 65535")
        for flag, value in (
            ("--max-batch-tokens", self.max_batch_tokens),
            ("--max-queue-tokens", self.max_queue_tokens),
            ("--request-timeout-s", self.request_timeout_s),
            ("--watchdog-s", self.watchdog_s),
            ("--drain-s", self.drain_s),
        ):
            if not (math.isfinite(value) and value > 0):
                raise SettingsError(f"{flag} {value}: must be a positive number")
        self._check_vllm()
        if self.workers is not None and self.workers < 1:
            raise SettingsError(f"--workers {self.workers}: must be at least 1")
        if not (math.isfinite(self.prefix_cache_mb) and self.prefix_cache_mb >= 0):
            raise SettingsError(
                f"--prefix-cache-mb {self.prefix_cache_mb}: must be 0 (off) or a positive number"
            )
        if self.trainers.turn_marker == "":
            raise SettingsError("--turn-marker is empty: give the text before the response")
        self._check_strengths()
        self._check_combination()
        self._check_drift()
        self._check_keys()

    def _check_vllm(self) -> None:
        for flag, size in (
            ("--tensor-parallel-size", self.tensor_parallel_size),
            ("--pipeline-parallel-size", self.pipeline_parallel_size),
        ):
            if size < 1:
                raise SettingsError(f"{flag} {size}: must be at least 1")
            if size > 1 and self.engine != "vllm":
                raise SettingsError(f"{flag} {size}: needs --engine vllm")
        if self.engine == "vllm" and self.device != "auto":
            raise SettingsError(
                f"--device {self.device}: vLLM picks its devices itself, by CUDA_VISIBLE_DEVICES"
            )
        if self.vllm_args and self.engine != "vllm":
            raise SettingsError(f"--vllm-arg {next(iter(self.vllm_args))}: needs --engine vllm")
        if taken := sorted(SET_BY_CANDOR & self.vllm_args.keys()):
            raise SettingsError(f"--vllm-arg {taken[0]}: Candor sets it itself; leave it out")

    def _check_strengths(self) -> None:
        for flag, strengths in (("--penalty", self.penalties), ("--kappa", self.kappas)):
            for name, value in strengths.items():
                if not (math.isfinite(value) and value >= 0):
                    raise SettingsError(
                        f"{flag} {name}={value}: must be a finite number, at least 0"
                    )
        if both := sorted(self.penalties.keys() & self.kappas.keys()):
            raise SettingsError(f"--penalty and --kappa both name {both[0]}: give one of them")
        if both := sorted(set(self.probes) & set(self.monitors)):
            raise SettingsError(f"--probe and --monitor both name {both[0]}: give one of them")

    def _check_combination(self) -> None:
        if self.spread_weight is not None and self.combine != "spread":
            raise SettingsError(
                f"--spread-weight {self.spread_weight}: only --combine spread has one, and this is "
                f"--combine {self.combine}"
            )
        try:
            self.combination  # noqa: B018  checks itself
        except ValueError as error:
            raise SettingsError(f"--combine, --spread-weight: {error}") from None

    @property
    def combination(self) -> Combination:
        if self.spread_weight is None:
            return Combination(self.combine)
        return Combination(self.combine, self.spread_weight)

    def _check_drift(self) -> None:
        if self.drift_window != 0 and not MIN_WINDOW <= self.drift_window <= MAX_WINDOW:
            raise SettingsError(
                f"--drift-window {self.drift_window}: must be 0 (off) or from {MIN_WINDOW} to "
                f"{MAX_WINDOW} responses"
            )
        if self.drift_window == 0 and self.drift_reference is not None:
            raise SettingsError(
                f"--drift-reference {self.drift_reference}: nothing is compared with it under "
                "--drift-window 0; leave one of them out"
            )

    def _check_keys(self) -> None:
        for what, key in (("API", self.api_key), ("operator", self.operator_key)):
            if key is not None and not (key.strip() and key.isascii()):
                raise SettingsError(
                    f"the {what} key is empty or not ASCII: give a non-empty ASCII key"
                )
        if self.operator_key is not None and self.operator_key == self.api_key:
            raise SettingsError(
                "--operator-key-file holds the API key: give a key that callers do not have"
            )
        if is_loopback(self.host) or self.api_key is not None or self.insecure_no_auth:
            return
        raise SettingsError(
            f"--host {self.host} is reachable from other machines and there is no API key: set "
            "CANDOR_API_KEY or --api-key-file, or say --insecure-no-auth"
        )


def is_loopback(host: str) -> bool:
    """Whether binding to `host` keeps other machines out. A name other than localhost may resolve
    anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_names(settings: Settings, served: Collection[str], monitors: Collection[str]) -> None:
    """Every strength must name a served probe, and no name may be used twice.

    Args:
        served: names on the cards of `settings.probes`.
        monitors: names on the cards of `settings.monitors`.
    """
    names = [*served, *monitors]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"two probes are named {twice[0]}: a name must be served once")
    for flag, strengths in (("--penalty", settings.penalties), ("--kappa", settings.kappas)):
        for name in strengths:
            if name in monitors:
                raise SettingsError(
                    f"{flag} {name}: {name} is a monitor, and a monitor is never in the reward; "
                    "serve it with --probe instead"
                )
            if name not in served:
                known = ", ".join(sorted(served)) or "none"
                raise SettingsError(f"{flag} {name}: no such probe; served probes: {known}")


def parse_vllm_args(pairs: list[str]) -> dict[str, Any]:
    """`["block-size=16"]` -> `{"block_size": 16}`: JSON where it is some, else a text."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not (name and sign):
            raise SettingsError(f"--vllm-arg {pair}: write NAME=VALUE, for example block-size=16")
        if name in arguments:
            raise SettingsError(f"--vllm-arg {name} is given twice")
        try:
            arguments[name] = json.loads(text)
        except ValueError:
            arguments[name] = text
    return arguments


def parse_strengths(flag: str, pairs: list[str]) -> dict[str, float]:
    """`["sycophancy=0.5"]` -> `{"sycophancy": 0.5}`; range checks are `Settings`' business."""
    strengths: dict[str, float] = {}
    for pair in pairs:
        name, sign, number = pair.partition("=")
        name = name.strip()
        if not (name and sign):
            raise SettingsError(f"{flag} {pair}: write NAME=NUMBER, for example sycophancy=0.5")
        if name in strengths:
            raise SettingsError(f"{flag} {name} is given twice")
        try:
            strengths[name] = float(number)
        except ValueError:
            raise SettingsError(f"{flag} {pair}: {number!r} is not a number") from None
    return strengths
