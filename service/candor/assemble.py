"""Builds a `Rewarder` from `Settings`: loads the probes, the model, the engine and the drift
windows, and checks that they fit together. Flags are parsed in `candor.serve`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from candor import logs
from candor.batching.batcher import Batcher
from candor.engines.choose import build_engine
from candor.engines.prefix_cache import PrefixCache
from candor.engines.threads import choose_num_workers, threads_for
from candor.engines.vllm import check as vllm_check
from candor.engines.vllm import engine as vllm_engine
from candor.engines.vllm.engine import VllmEngine
from candor.flags import UsageError
from candor.item import Engine
from candor.labels.book import LabelBook
from candor.methods import SCREEN_KAPPA, Use, screen_threshold, use_for
from candor.models.load import RewardModel, load_reward_model
from candor.probes.artifact import ArtifactError, LoadedProbe
from candor.probes.probe import Probe
from candor.probes.sources.repositories import load_probe
from candor.scoring.projected import project
from candor.scoring.replacing import log_probe, warn_of
from candor.scoring.rewarder import Rewarder
from candor.scoring.served import Served, ServedProbe, lambda_of_kappa
from candor.settings import Settings, check_names
from candor.watch.cache_gauges import PrefixCacheGauges
from candor.watch.drift import Drift
from candor.watch.drift_reference import DriftReference
from candor.watch.metrics import Metrics
from candor.watch.startup import StartUp

log = logs.get(__name__)


def serve_probes(settings: Settings) -> Served:
    """Loads every probe in the settings, with its lambda.

    Raises:
        UsageError: a folder holds no readable probe, or the probes' names and the strengths given
            for them do not match.
    """
    try:
        probes = [load_probe(place) for place in settings.probes]
        monitors = [load_probe(place) for place in settings.monitors]
    except ArtifactError as error:
        raise UsageError(str(error)) from None
    check_names(
        settings,
        [probe.card.name for probe in probes],
        [monitor.card.name for monitor in monitors],
    )
    served = {probe.card.name: serve_probe(settings, probe) for probe in probes}
    for monitor in monitors:
        served[monitor.card.name] = ServedProbe(monitor, default_lambda=0.0, monitor=True)
    return Served(served)


def serve_probe(settings: Settings, probe: LoadedProbe) -> ServedProbe:
    """The probe with its method, threshold and lambda.

    Raises:
        UsageError: the probe screens, and neither the settings nor its card have a threshold.
    """
    name, card = probe.card.name, probe.card
    use = use_for(name, settings.methods)
    if use.method == "screen" and use.threshold is None:
        use = Use("screen", screen_threshold(card))
        if use.threshold is None:
            raise UsageError(
                f"--method screen: the card of {name} has no threshold (no genuine-agreement rows "
                f"and no hinge): give one in logits, --method {name}=screen:THRESHOLD"
            )
    strength = settings.penalties.get(name)
    if strength is None:
        kappa = settings.kappas.get(name, SCREEN_KAPPA if use.method == "screen" else 0.0)
        strength = lambda_of_kappa(use.method, kappa, card.calibration)
    return ServedProbe(probe, strength, use=use)


def load(
    settings: Settings,
    served: Served,
    reference: DriftReference | None,
    metrics: Metrics,
    startup: StartUp | None = None,
) -> Rewarder:
    """Loads the model, checks it against every probe, and puts a batcher before it, not yet
    started. `startup` is told the phases.

    Raises:
        ModelRefused: the model cannot be served.
        ProbeMismatch: a probe belongs to another model.
        UsageError: `reference` was taken with another model or other probes.
    """
    began = time.monotonic()
    startup = startup or StartUp()
    startup.begin("model")
    model = load_reward_model(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        dtype=settings.dtype,
        trunk=settings.engine != "vllm",
        template_date=settings.template_date,
    )
    for probe in served.everything.values():
        warn_of(probe.loaded.card, model)
    startup.begin("engine")
    prefix_cache = build_prefix_cache(settings, metrics)
    engine = start_engine(settings, model, served, prefix_cache)
    rewarder = assemble(settings, model, engine, served, reference, metrics)
    _log_loaded(rewarder, model, served, time.monotonic() - began)
    return rewarder


def assemble(
    settings: Settings,
    model: RewardModel,
    engine: Engine,
    served: Served,
    reference: DriftReference | None,
    metrics: Metrics,
) -> Rewarder:
    """A loaded model and its engine behind a batcher that is not started yet.

    Raises:
        UsageError: `reference` was taken with another model or other probes.
    """
    metrics.on_engine(engine.name, engine.reason)
    threaded = model.device == "cpu" and not isinstance(engine, VllmEngine)
    budget = settings.max_batch_tokens
    if isinstance(engine, VllmEngine):  # vLLM makes batches of its own
        num_workers = settings.workers or vllm_engine.DEFAULT_WORKERS
        budget = max(1, vllm_engine.MAX_INFLIGHT_BATCHES * budget // num_workers)
    else:
        num_workers = choose_num_workers(settings.workers, model.model, on_cpu=threaded)
    return Rewarder(
        model=model,
        renderer=model.renderer(),
        engine=engine,
        batcher=Batcher(
            engine,
            max_batch_tokens=budget,
            max_queue_tokens=settings.max_queue_tokens,
            watchdog_s=settings.watchdog_s,
            num_workers=num_workers,
            before_batch=threads_for(num_workers) if threaded else None,
            observer=metrics,
        ),
        served=served,
        metrics=metrics,
        model_id=settings.served_model_name,
        combination=settings.combination,
        drift=drift_windows(settings, model, served, reference),
        labels=LabelBook(served.all_versions(), settings.label_window, settings.label_spool),
        as_served=partial(serve_probe, settings),
    )


def build_prefix_cache(settings: Settings, metrics: Metrics) -> PrefixCache | None:
    """The cache of the packed engine, shown in the metrics; None where the settings have none."""
    if settings.engine != "packed" or not settings.prefix_cache_mb:
        return None
    prefix_cache = PrefixCache(int(settings.prefix_cache_mb * 2**20))
    metrics.registry.register(PrefixCacheGauges(prefix_cache))
    return prefix_cache


def start_engine(
    settings: Settings,
    model: RewardModel,
    served: Served,
    prefix_cache: PrefixCache | None,
) -> Engine:
    """The engine that the settings name, reading every served probe.

    Raises:
        ModelRefused: vLLM does not start, or its scores differ from the model's.
        UsageError: two projected probes contradict each other.
    """
    probes = list(served.columns.values())
    project(model.model, served, model.device)
    if settings.engine == "vllm":
        return start_vllm(settings, model, probes)
    return build_engine(
        settings.engine, model.model, probes, device=model.device, prefix_cache=prefix_cache
    )


def _log_loaded(
    rewarder: Rewarder,
    model: RewardModel,
    served: Served,
    seconds: float,
) -> None:
    log.info(
        "model_loaded",
        model=rewarder.model_id,
        weights=model.weights_sha256[:12],
        dtype=rewarder.dtype,
        device=model.device,
        engine=rewarder.engine_name,
        engine_reason=rewarder.engine_reason,
        workers=rewarder.batcher.num_workers,
        template=model.template_sha256[:12] if model.tokenizer.chat_template else None,
        ending=model.ending,
        max_length=model.max_length,
        seconds=round(seconds, 1),
    )
    if model.template_date is not None:
        log.warning(
            "template_reads_clock",
            template_date=model.template_date.isoformat(),
            message="the chat template writes the date, so R and S depend on it; the date stays as "
            "it is until the server ends: give --template-date to have the same after a restart",
        )
    for probe in served.everything.values():
        log_probe("probe_loaded", probe)


def start_vllm(settings: Settings, model: RewardModel, probes: Sequence[Probe]) -> VllmEngine:
    """Starts vLLM and checks its scores against the model's.

    Raises:
        ModelRefused: vLLM does not start, or its scores differ from the model's.
    """
    engine = vllm_engine.start(
        model,
        probes,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        arguments=settings.vllm_args,
    )
    try:
        log.info("vllm_checked", against=vllm_check.check(engine, model, probes))
    except Exception:
        engine.close()
        raise
    return engine


def drift_windows(
    settings: Settings,
    model: RewardModel,
    served: Served,
    reference: DriftReference | None,
) -> Drift | None:
    """The drift windows, or None with `--drift-window 0`."""
    if settings.drift_window == 0:
        return None
    return Drift(
        weights_sha256=model.weights_sha256,
        template_sha256=model.template_sha256,
        probes=served.probes,
        monitors=served.monitors,
        projected=served.projected,
        window=settings.drift_window,
        reference=reference,
    )
