"""`candor serve`: flags to `Settings`, and the life of the process from bind to exit status.

Exit status: 0 drained, 1 could not load, 2 wrong settings, 75 cut accepted work (a second signal,
or the end of `--drain-s`).
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import uvicorn
from cyclopts import Group, Parameter
from huggingface_hub.utils.tqdm import disable_progress_bars
from transformers.utils.logging import disable_progress_bar as disable_loading_bar

from candor import assemble, logs
from candor.http.app import Load, create_app
from candor.http.protocol import BoundedProtocol
from candor.http.server import CUT, LAME_DUCK_S, Server
from candor.probes.artifact import ArtifactError
from candor.probes.combine import CombinationKind
from candor.settings import Dtype, Settings, SettingsError, parse_strengths, parse_vllm_args
from candor.trainers.options import RewardField, TrainerRoutes, Truncation
from candor.watch.drift import DEFAULT_WINDOW
from candor.watch.drift_reference import DriftReferenceError, read_reference
from candor.watch.health import Health

log = logs.get(__name__)

KEEP_ALIVE_S = 65
"""Longer than proxies keep idle connections, so that it is they who close them."""

REWARD = Group("Model and probes")
NETWORK = Group("Network")
LIMITS = Group("Limits")
DRIFT = Group("Drift")
TRAINERS = Group("Trainers' routes")
VLLM = Group("With --engine vllm")


def serve(
    *,
    model: Annotated[str, Parameter(group=REWARD)],
    revision: Annotated[str | None, Parameter(group=REWARD)] = None,
    probe: Annotated[list[str] | None, Parameter(group=REWARD, negative="")] = None,
    penalty: Annotated[list[str] | None, Parameter(group=REWARD, negative="")] = None,
    kappa: Annotated[list[str] | None, Parameter(group=REWARD, negative="")] = None,
    monitor: Annotated[list[str] | None, Parameter(group=REWARD, negative="")] = None,
    combine: Annotated[CombinationKind, Parameter(group=REWARD)] = "sum",
    spread_weight: Annotated[float | None, Parameter(group=REWARD)] = None,
    served_model_name: Annotated[str | None, Parameter(group=REWARD)] = None,
    device: Annotated[str, Parameter(group=REWARD)] = "auto",
    dtype: Annotated[Dtype, Parameter(group=REWARD)] = "auto",
    engine: Annotated[Literal["packed", "padded", "vllm"], Parameter(group=REWARD)] = "packed",
    tensor_parallel_size: Annotated[int, Parameter(group=VLLM)] = 1,
    pipeline_parallel_size: Annotated[int, Parameter(group=VLLM)] = 1,
    vllm_arg: Annotated[list[str] | None, Parameter(group=VLLM, negative="")] = None,
    host: Annotated[str, Parameter(group=NETWORK)] = "127.0.0.1",
    port: Annotated[int, Parameter(group=NETWORK)] = 8000,
    host_name: Annotated[list[str] | None, Parameter(group=NETWORK, negative="")] = None,
    api_key: Annotated[str | None, Parameter(group=NETWORK, show_default=False)] = None,
    api_key_file: Annotated[Path | None, Parameter(group=NETWORK)] = None,
    operator_key_file: Annotated[Path | None, Parameter(group=NETWORK)] = None,
    insecure_no_auth: Annotated[bool, Parameter(group=NETWORK, negative="")] = False,
    max_batch_tokens: Annotated[int, Parameter(group=LIMITS)] = 8192,
    max_queue_tokens: Annotated[int, Parameter(group=LIMITS)] = 1_048_576,
    workers: Annotated[int | None, Parameter(group=LIMITS)] = None,
    prefix_cache_mb: Annotated[float, Parameter(group=LIMITS)] = 256.0,
    request_timeout_s: Annotated[float, Parameter(group=LIMITS)] = 95.0,
    watchdog_s: Annotated[float, Parameter(group=LIMITS)] = 60.0,
    drain_s: Annotated[float, Parameter(group=LIMITS)] = 30.0,
    drift_window: Annotated[int, Parameter(group=DRIFT)] = DEFAULT_WINDOW,
    drift_reference: Annotated[Path | None, Parameter(group=DRIFT)] = None,
    openrlhf_rewards: Annotated[RewardField, Parameter(group=TRAINERS)] = "reward",
    openrlhf_scores: Annotated[RewardField, Parameter(group=TRAINERS)] = "reward",
    openrlhf_extra_logs: Annotated[bool, Parameter(group=TRAINERS)] = True,
    turn_marker: Annotated[str | None, Parameter(group=TRAINERS)] = None,
    trainer_truncation: Annotated[Truncation, Parameter(group=TRAINERS)] = "error",
) -> None:
    """Serve a reward model with probe penalties over HTTP.

    Parameters
    ----------
    model
        Folder or hub id of a reward model (sequence classification, one label).
    revision
        Commit, tag or branch of a hub id.
    probe
        Folder of a probe to serve; repeat for more.
    penalty
        NAME=LAMBDA, reward units per logit; repeat for more. A probe without one is served at 0.
    kappa
        NAME=KAPPA: lambda in standard deviations, from the probe's calibration.
    monitor
        Folder of a probe to watch with: recorded for the operator's routes (/metrics, /v1/drift),
        never in the reward or in an answer to whoever asks for rewards.
    combine
        How several probes' penalties become one: their sum, the largest, or mean + spread.
    spread_weight
        Standard deviations that --combine spread adds to the mean; 1 unless given.
    served_model_name
        Name to answer under.
    device
        auto, cpu, cuda, cuda:1, ...
    dtype
        Of the weights; auto is bfloat16 on CUDA, and on a CPU the checkpoint's own unless slow.
    engine
        packed computes a shared context once; padded is the plain forward; vllm runs models that
        need more than one GPU, and has to be installed.
    tensor_parallel_size
        GPUs that share every layer.
    pipeline_parallel_size
        Groups of GPUs that have some of the layers each.
    vllm_arg
        NAME=VALUE, one of vLLM's engine arguments; repeat for more.
    host
        Address to bind. Other than loopback needs a key.
    port
        Port to bind; 0 picks a free one.
    host_name
        DNS name a Host header may carry, beside localhost and addresses; repeat for more.
    api_key
        Key every route but the health routes asks for. Prefer CANDOR_API_KEY or a file.
    api_key_file
        File that holds the key.
    operator_key_file
        File that holds a second key, for /metrics and /v1/drift; the API key does not open them
        then, so that whoever asks for rewards cannot see the monitors.
    insecure_no_auth
        Bind to the network without a key.
    max_batch_tokens
        Budget of one forward; twice as many are in vLLM at most, which makes its own forwards.
    max_queue_tokens
        Tokens that may wait; more is answered 503.
    workers
        Batches that run at once; unless given one a core on a CPU, up to 8, one on a GPU, and 8 in
        vLLM.
    prefix_cache_mb
        MiB on the model's device for contexts, so that a group's later responses find theirs
        computed; 0 keeps none.
    request_timeout_s
        Deadline of a request that sends no X-Request-Timeout.
    watchdog_s
        A forward longer than this makes the server not ready.
    drain_s
        From SIGTERM to the end, at most.
    drift_window
        Responses that drift is told from; the first so many are the reference. 0 switches it off.
    drift_reference
        File from GET /v1/drift/reference, in place of the first responses.
    openrlhf_rewards
        What /get_reward answers in `rewards`: advantages are made of it.
    openrlhf_scores
        What it answers in `scores`: prompts are filtered by it.
    openrlhf_extra_logs
        R, penalty and probe scores in `extra_logs`; OpenRLHF 0.8.10 and 0.8.11 fail on them.
    turn_marker
        Text that stands before the response where a policy has another chat template than the
        reward model and its trainer sends no prompt.
    trainer_truncation
        What trainers' routes do with text over the window: error, or left, which drops the oldest
        context and keeps the response.
    """
    logs.configure()
    if not sys.stderr.isatty():
        # A progress bar is no JSON line.
        disable_loading_bar()  # type: ignore[no-untyped-call]
        disable_progress_bars()
    try:
        settings = Settings(
            model=model,
            revision=revision,
            probes=tuple(probe or ()),
            penalties=parse_strengths("--penalty", penalty or []),
            kappas=parse_strengths("--kappa", kappa or []),
            monitors=tuple(monitor or ()),
            combine=combine,
            spread_weight=spread_weight,
            served_model_name=served_model_name,
            device=device,
            dtype=dtype,
            engine=engine,
            tensor_parallel_size=tensor_parallel_size,
            pipeline_parallel_size=pipeline_parallel_size,
            vllm_args=parse_vllm_args(vllm_arg or []),
            host=host,
            port=port,
            host_names=tuple(host_name or ()),
            api_key=read_key(api_key, api_key_file),
            operator_key=read_key_file("--operator-key-file", operator_key_file),
            insecure_no_auth=insecure_no_auth,
            max_batch_tokens=max_batch_tokens,
            max_queue_tokens=max_queue_tokens,
            workers=workers,
            prefix_cache_mb=prefix_cache_mb,
            request_timeout_s=request_timeout_s,
            watchdog_s=watchdog_s,
            drain_s=drain_s,
            drift_window=drift_window,
            drift_reference=drift_reference,
            trainers=TrainerRoutes(
                openrlhf_rewards=openrlhf_rewards,
                openrlhf_scores=openrlhf_scores,
                openrlhf_extra_logs=openrlhf_extra_logs,
                turn_marker=turn_marker,
                truncation=trainer_truncation,
            ),
        )
        served = assemble.serve_probes(settings)
        reference = read_reference(drift_reference) if drift_reference is not None else None
    except (SettingsError, ArtifactError, DriftReferenceError) as error:
        print(f"candor serve: {error}", file=sys.stderr)
        sys.exit(2)
    if settings.insecure_no_auth and settings.api_key is None:
        log.warning("no_auth", reason="anyone who reaches this port can use it")
    status = run(settings, lambda metrics: assemble.load(settings, served, reference, metrics))
    logging.shutdown()
    # Not sys.exit: a forward that hangs would hold the interpreter's exit for ever.
    os._exit(status)


def read_key(api_key: str | None, api_key_file: Path | None) -> str | None:
    """The key from where it was given; a key on the command line is warned of.

    Raises:
        SettingsError: two sources, or an unreadable file.
    """
    if api_key is not None and os.environ.get("CANDOR_API_KEY") != api_key:
        log.warning(
            "key_on_command_line",
            reason="other users of this machine can read it; use CANDOR_API_KEY or --api-key-file",
        )
    if api_key_file is not None and api_key is not None:
        raise SettingsError("--api-key-file and an API key are both given: give one of them")
    return read_key_file("--api-key-file", api_key_file) if api_key is None else api_key


def read_key_file(flag: str, path: Path | None) -> str | None:
    """The key in a file, without the white space around it; None without a file.

    Raises:
        SettingsError: unreadable.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = type(error).__name__
        raise SettingsError(f"{flag} {path}: cannot be read ({reason})") from None


def run(settings: Settings, load: Load) -> int:
    """Serve until a signal; the exit status."""
    health = Health()
    app = create_app(settings, load, health=health)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        # uvicorn takes whole seconds.
        timeout_graceful_shutdown=max(1, round(settings.drain_s - LAME_DUCK_S)),
        backlog=4096,
    )
    Server(config, health).run()
    if health.failed is not None:
        return 1
    log.info("drained", cut=health.num_cut)
    return CUT if health.num_cut else 0
