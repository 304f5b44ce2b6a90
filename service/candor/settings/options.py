"""`Settings`: the fields are the options of `candor serve`, their docstrings the help."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from candor.flags import (
    API_KEY,
    UsageError,
    check_strength,
    mapping,
    parse_strengths,
    read_key_file,
    repeatable,
)
from candor.labels.windows import DEFAULT_WINDOW as DEFAULT_LABEL_WINDOW
from candor.labels.windows import MIN_WINDOW as MIN_LABEL_WINDOW
from candor.methods import parse_methods, use_of
from candor.probes.combine import Combination, CombinationKind
from candor.settings.vllm_arguments import SET_BY_CANDOR, parse_vllm_args
from candor.trainers.options import TrainerRoutes
from candor.watch.windows import DEFAULT_WINDOW, MAX_WINDOW, MIN_WINDOW

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

MODEL = Group("Model and probes", sort_key=1)
NETWORK = Group("Network", sort_key=2)
LIMITS = Group("Limits", sort_key=4)
DRIFT = Group("Drift", sort_key=5)
LABELS = Group("Labels", sort_key=6)
VLLM = Group("With --engine vllm", sort_key=7)

PENALTY = mapping("--penalty", MODEL, lambda texts: parse_strengths("--penalty", texts))
METHOD = mapping("--method", MODEL, parse_methods)
KAPPA = mapping("--kappa", MODEL, lambda texts: parse_strengths("--kappa", texts))


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides how a server runs. Docstrings of fields are the help of the flags.

    Raises:
        UsageError: at construction, for a value out of range or an address open to the network
            without a key.
    """

    model: Annotated[str, Parameter(group=MODEL)]
    """Reward model (RM): folder or hub id of a sequence classifier with one label. Its output for a
    response is R, the base reward."""
    _: KW_ONLY
    revision: Annotated[str | None, Parameter(group=MODEL)] = None
    """Commit, tag or branch of the hub id."""
    probes: Annotated[tuple[str, ...], repeatable("--probe", MODEL)] = ()
    """Folder of a probe, or org/name@revision on the Hugging Face Hub. A probe is a linear
    classifier on the RM's hidden states. Its score S is a logit; a higher S means more of a trait,
    such as flattery. reward = R - lambda * bound(S), where bound limits S as the probe's card says.
    Repeat the flag for more probes."""
    penalties: Annotated[Mapping[str, float], PENALTY] = field(default_factory=dict)
    """NAME=LAMBDA: strength of the penalty by the probe NAME, in reward units per logit. Repeat the
    flag for more probes. A probe with neither --penalty nor --kappa has lambda 0."""
    kappas: Annotated[Mapping[str, float], KAPPA] = field(default_factory=dict)
    """NAME=KAPPA: the same strength without units. lambda = kappa * std(R) / std(bound(S)), with
    both standard deviations within prompt, from the calibration on the probe's card. Repeat the
    flag for more probes."""
    methods: Annotated[Mapping[str, str], METHOD] = field(default_factory=dict)
    """How probes are used: METHOD for every probe, or NAME=METHOD for one. Repeat the flag for more
    probes. subtract (default): reward = R - lambda * bound(S). project: what the probe reads is
    taken out of the RM's activations at the probe's layer, and the reward is the R of that model.
    screen: a response whose S is above a threshold loses a fine; screen:THRESHOLD gives the
    threshold in logits (default: from the probe's card); the fine is 10 std(R), or --kappa times
    std(R), or --penalty. advantage: the reward is R, and lambda * bound(S) is answered beside it,
    for a trainer that subtracts it from the advantages."""
    monitors: Annotated[tuple[str, ...], repeatable("--monitor", MODEL)] = ()
    """Folder or Hub name of a monitor: a probe whose scores only the operator sees, at /metrics and
    /v1/drift. A monitor is never in the reward and never in an answer to a caller. Repeat the flag
    for more monitors."""
    combine: Annotated[CombinationKind, Parameter(group=MODEL)] = "sum"
    """How the terms lambda * bound(S) of several probes become one penalty: their sum, their
    largest (max), or their mean + spread weight * standard deviation (spread)."""
    spread_weight: Annotated[float | None, Parameter(group=MODEL)] = None
    """Spread weight of --combine spread. Default: 1."""
    served_model_name: Annotated[str | None, Parameter(group=MODEL)] = None
    """Name of the model in answers. Default: the hub id, or the last part of the folder's
    path."""
    template_date: Annotated[date | None, Parameter(group=MODEL)] = None
    """Date, such as 2026-11-30, for a chat template that writes the date. Not used for other
    templates. Default: the date of the start."""
    device: Annotated[str, Parameter(group=MODEL)] = "auto"
    """Device of the model: cpu, cuda, cuda:1, ...; auto is cuda where there is a GPU, else cpu."""
    dtype: Annotated[Dtype, Parameter(group=MODEL)] = "auto"
    """Number type of the weights. auto is bfloat16 on a GPU; on a CPU it is the checkpoint's own
    type, or float32 where the CPU is slow in that type."""
    engine: Annotated[Literal["packed", "padded", "vllm"], Parameter(group=MODEL)] = "packed"
    """packed computes a context that several responses share once. padded is the plain forward pass
    of transformers. vllm is for models that need more than one GPU
    (pip install 'candor-rewards[server,vllm]')."""

    tensor_parallel_size: Annotated[int, Parameter(group=VLLM)] = 1
    """Number of GPUs that share every layer."""
    pipeline_parallel_size: Annotated[int, Parameter(group=VLLM)] = 1
    """Number of groups of GPUs; each group holds some of the layers."""
    vllm_args: Annotated[Mapping[str, Any], mapping("--vllm-arg", VLLM, parse_vllm_args)] = field(
        default_factory=dict
    )
    """NAME=VALUE: an engine argument of vLLM, such as block-size=16. Repeat the flag for more
    arguments."""

    host: Annotated[str, Parameter(group=NETWORK)] = "127.0.0.1"
    """Address to bind. An address that other machines can reach needs an API key."""
    port: Annotated[int, Parameter(group=NETWORK)] = 8000
    """Port to bind. 0 picks a free port."""
    host_names: Annotated[tuple[str, ...], repeatable("--host-name", NETWORK)] = ()
    """DNS name that clients of a server without a key may use, beside localhost, this machine's own
    name and IP addresses. A server with a key answers to every name. Repeat the flag for more
    names."""
    api_key: Annotated[
        str | None, Parameter(group=NETWORK, show_default=False, env_var=API_KEY)
    ] = field(default=None, repr=False)
    """Key that every route asks for, except the health routes. Prefer the environment variable or
    --api-key-file: other users of a machine can read its command lines."""
    api_key_file: Annotated[Path | None, Parameter(group=NETWORK)] = None
    """File that holds the API key."""
    operator_key_file: Annotated[Path | None, Parameter(group=NETWORK)] = None
    """File that holds the operator's key, for /metrics, /v1/drift, /v1/labels and
    /v1/probes/replace. With this key, the API key does not open those routes, so that callers can
    neither see the monitors nor change the probes."""
    operator_key: Annotated[str | None, Parameter(parse=False)] = field(default=None, repr=False)
    """Key out of `operator_key_file`; not a flag."""
    insecure_no_auth: Annotated[bool, Parameter(group=NETWORK, negative="")] = False
    """Allow a --host that other machines can reach although there is no API key."""
    inspector: Annotated[bool | None, Parameter(group=NETWORK, show_default=False)] = None
    """Serve the inspector at /inspector: a page that ranks candidates under any lambda, in a
    browser. Default: served where only this machine can reach --host."""

    max_batch_tokens: Annotated[int, Parameter(group=LIMITS)] = 8192
    """Most tokens in one forward pass. With --engine vllm: at most twice this many tokens are in
    flight."""
    max_queue_tokens: Annotated[int, Parameter(group=LIMITS)] = 8_388_608
    """Most tokens that wait for the model. Requests beyond this limit are answered with status
    503. The default holds 4096 texts of 2048 tokens."""
    workers: Annotated[int | None, Parameter(group=LIMITS)] = None
    """Number of batches computed at the same time. Default: one per core on a CPU, at most 8; one
    on a GPU; 8 with --engine vllm."""
    prefix_cache_mb: Annotated[float, Parameter(group=LIMITS)] = 256.0
    """MiB of the device's memory that keep computed contexts, so that a later response to the same
    context does not compute the context again. 0 keeps none."""
    request_timeout_s: Annotated[float, Parameter(group=LIMITS)] = 3600.0
    """Deadline in seconds of a request without an X-Request-Timeout header. A request that cannot
    be scored before its deadline is refused at once. A caller that gives up sooner closes its
    connection, and is then no longer scored."""
    watchdog_s: Annotated[float, Parameter(group=LIMITS)] = 60.0
    """Seconds after which a forward pass that has not ended makes the server not ready."""
    drain_s: Annotated[float, Parameter(group=LIMITS)] = 30.0
    """Most seconds from SIGTERM to the end of the process. Accepted requests are answered in this
    time."""

    drift_window: Annotated[int, Parameter(group=DRIFT)] = DEFAULT_WINDOW
    """Number of responses in a drift window. R and S of the latest window are compared with a
    reference window: the first responses, unless --drift-reference is given. 0 switches this
    off."""
    drift_reference: Annotated[Path | None, Parameter(group=DRIFT)] = None
    """File saved from GET /v1/drift/reference: the reference, in place of the first responses."""

    label_window: Annotated[int, Parameter(group=LABELS)] = DEFAULT_LABEL_WINDOW
    """Number of prompts in a window of judged responses (POST /v1/labels). The first window is the
    reference for the AUROC of the probe's version."""
    label_spool: Annotated[Path | None, Parameter(group=LABELS)] = None
    """File that judged responses are appended to, and read from at the next start. It holds texts.
    Without it they are kept in memory only."""

    trainers: TrainerRoutes = field(default_factory=TrainerRoutes)

    def __post_init__(self) -> None:
        if not self.model:
            raise UsageError("--model: give a folder or a hub id of a reward model")
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"--port {self.port}: must be between 0 and 65535")
        for flag, value in (
            ("--max-batch-tokens", self.max_batch_tokens),
            ("--max-queue-tokens", self.max_queue_tokens),
            ("--request-timeout-s", self.request_timeout_s),
            ("--watchdog-s", self.watchdog_s),
            ("--drain-s", self.drain_s),
        ):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{flag} {value}: must be a positive number")
        self._check_vllm()
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}: must be at least 1")
        if not (math.isfinite(self.prefix_cache_mb) and self.prefix_cache_mb >= 0):
            raise UsageError(
                f"--prefix-cache-mb {self.prefix_cache_mb}: must be 0 (off) or a positive number"
            )
        if self.trainers.turn_marker == "":
            raise UsageError("--turn-marker is empty: give the text before the response")
        self._check_strengths()
        self._check_methods()
        self._check_combination()
        self._check_drift()
        self._check_keys()

    def _check_vllm(self) -> None:
        for flag, size in (
            ("--tensor-parallel-size", self.tensor_parallel_size),
            ("--pipeline-parallel-size", self.pipeline_parallel_size),
        ):
            if size < 1:
                raise UsageError(f"{flag} {size}: must be at least 1")
            if size > 1 and self.engine != "vllm":
                raise UsageError(f"{flag} {size}: needs --engine vllm")
        if self.engine == "vllm" and self.device != "auto":
            raise UsageError(
                f"--device {self.device}: vLLM picks its devices itself, by CUDA_VISIBLE_DEVICES"
            )
        if self.vllm_args and self.engine != "vllm":
            raise UsageError(f"--vllm-arg {next(iter(self.vllm_args))}: needs --engine vllm")
        if taken := sorted(SET_BY_CANDOR & self.vllm_args.keys()):
            raise UsageError(f"--vllm-arg {taken[0]}: Candor sets it itself; leave it out")

    def _check_strengths(self) -> None:
        for flag, strengths in (("--penalty", self.penalties), ("--kappa", self.kappas)):
            for name, strength in strengths.items():
                check_strength(flag, name, strength)
        if both := sorted(self.penalties.keys() & self.kappas.keys()):
            raise UsageError(f"--penalty and --kappa both name {both[0]}: give one of them")
        if both := sorted(set(self.probes) & set(self.monitors)):
            raise UsageError(f"--probe and --monitor both name {both[0]}: give one of them")

    def _check_methods(self) -> None:
        uses = {name: use_of(name, method) for name, method in self.methods.items()}
        if self.methods and not self.probes:
            raise UsageError("--method: there is no --probe to use")
        if self.engine == "vllm" and any(use.method == "project" for use in uses.values()):
            raise UsageError(
                "--method project: vLLM computes its activations itself; use --engine packed"
            )

    def _check_combination(self) -> None:
        if self.spread_weight is not None and self.combine != "spread":
            raise UsageError(
                f"--spread-weight {self.spread_weight}: only --combine spread has a weight; "
                f"this is --combine {self.combine}"
            )
        try:
            self.combination  # noqa: B018  checks itself
        except ValueError as error:
            raise UsageError(f"--combine, --spread-weight: {error}") from None

    @property
    def serves_inspector(self) -> bool:
        """Whether there is an inspector."""
        return is_loopback(self.host) if self.inspector is None else self.inspector

    @property
    def combination(self) -> Combination:
        if self.spread_weight is None:
            return Combination(self.combine)
        return Combination(self.combine, self.spread_weight)

    def _check_drift(self) -> None:
        if self.drift_window != 0 and not MIN_WINDOW <= self.drift_window <= MAX_WINDOW:
            raise UsageError(
                f"--drift-window {self.drift_window}: must be 0 (off) or from {MIN_WINDOW} to "
                f"{MAX_WINDOW} responses"
            )
        if self.drift_window == 0 and self.drift_reference is not None:
            raise UsageError(
                f"--drift-reference {self.drift_reference}: is not used with --drift-window 0; "
                "leave out one of the two flags"
            )

        if self.label_window < MIN_LABEL_WINDOW:
            raise UsageError(
                f"--label-window {self.label_window}: must be at least {MIN_LABEL_WINDOW} prompts"
            )

    def _check_keys(self) -> None:
        for name, key in (("API", self.api_key), ("operator", self.operator_key)):
            if key is not None and not (key.strip() and key.isascii()):
                raise UsageError(
                    f"the {name} key is empty or not ASCII: give a non-empty ASCII key"
                )
        if self.api_key_file is not None and self.api_key is not None:
            raise UsageError("--api-key-file and an API key are both given: give one of them")
        if self.operator_key is not None and self.operator_key == self.api_key:
            raise UsageError(
                "--operator-key-file holds the API key: give a key that callers do not have"
            )
        keyed = self.api_key is not None or self.api_key_file is not None
        if is_loopback(self.host) or keyed or self.insecure_no_auth:
            return
        raise UsageError(
            f"--host {self.host} is reachable from other machines and there is no API key: set "
            "CANDOR_API_KEY or --api-key-file, or say --insecure-no-auth"
        )

    def with_keys(self) -> Settings:
        """The same settings, with the keys read from their files.

        Raises:
            UsageError: a file that cannot be read, or a key that cannot be right.
        """
        api_key = read_key_file("--api-key-file", self.api_key_file)
        operator_key = read_key_file("--operator-key-file", self.operator_key_file)
        return dataclasses.replace(
            self,
            api_key=self.api_key if api_key is None else api_key,
            api_key_file=None,
            operator_key=self.operator_key if operator_key is None else operator_key,
            operator_key_file=None,
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost may resolve to any
    address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
