"""The ASGI application: routes, the edge around them, and loading in the background.

The port is bound before the model is loaded, so that `/livez` and `/readyz` answer while it loads.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import TypeVar

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from candor import logs
from candor.errors import reason_of
from candor.http.edge import Edge
from candor.http.guards import Limits
from candor.http.openapi import DescribedApp
from candor.http.pages import inspector, reference
from candor.http.routes import BODIES, on_routing_error, route_table, router
from candor.http.state import ServerState
from candor.labels.gauges import LabelGauges
from candor.scoring.rewarder import Rewarder
from candor.settings import Settings
from candor.version import VERSION
from candor.watch.health import Health
from candor.watch.metrics import Metrics

log = logs.get(__name__)
T = TypeVar("T")

Load = Callable[[Metrics], Rewarder]
"""Loads the model. Called once, in a thread of its own. The app then starts the batcher."""


def create_app(
    settings: Settings, load: Load, *, health: Health | None = None, limits: Limits | None = None
) -> FastAPI:
    """The whole application. Loading begins with its lifespan.

    With an API key, `/docs` and `/openapi.json` are off, because they list the routes for an
    attacker.
    """
    state = ServerState(settings=settings, health=health or Health(), metrics=Metrics())
    state.metrics.watch_health(state.health)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        """Load while the server already answers; end the threads at shutdown."""
        running = asyncio.create_task(load_and_watch(state, load))
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            if state.rewarder is not None:
                state.rewarder.close()

    documented = settings.api_key is None
    app = DescribedApp(
        title="Candor",
        version=VERSION,
        summary="Reward models with linear-probe penalties: reward = R - sum(lambda * bound(S)).",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's page loads a script from another host; ours is a route
        redoc_url=None,
        openapi_url="/openapi.json" if documented else None,
    )
    app.bodies = BODIES
    app.state.server = state
    app.include_router(router)
    app.include_router(inspector.router if settings.serves_inspector else inspector.off)
    if documented:
        app.include_router(reference.router)
    app.add_exception_handler(HTTPException, on_routing_error)
    app.add_middleware(
        Edge,
        health=state.health,
        metrics=state.metrics,
        routes=[*(path for _, path in route_table()), *inspector.PATHS, "/docs"],
        api_key=settings.api_key,
        operator_key=settings.operator_key,
        pages=inspector.PATHS if settings.serves_inspector else (),
        host_names=(settings.host, *settings.host_names),
        request_timeout_s=settings.request_timeout_s,
        limits=limits,
    )
    return app


async def load_and_watch(state: ServerState, load: Load) -> None:
    """Load, score the sentinel, accept work, then keep checking scores and drift.

    A failure writes one line to the log and sets `health.failed`; then `serve.py` ends the process.
    """
    try:
        rewarder = await in_daemon_thread(lambda: load(state.metrics))
        rewarder.batcher.start()
        await state.health.start(rewarder)
    except Exception as error:
        ours = type(error).__module__.startswith("candor.") and str(error)
        state.health.failed = str(error).split("\n", 1)[0] if ours else reason_of(error)
        log.error("load_failed", reason=state.health.failed, kind=type(error).__name__)
        log.debug("load_failed_at", exc_info=True)
        return
    state.rewarder = rewarder
    state.metrics.watch(rewarder.batcher)
    state.metrics.registry.register(LabelGauges(rewarder.labels))
    state.metrics.watch_probes(lambda: rewarder.served.all_versions())
    log.info(
        "ready",
        model=rewarder.model_id,
        formula=rewarder.formula,
        seconds=round(state.health.startup.progress().seconds, 1),
    )
    if rewarder.drift is None:
        await state.health.watch()
    else:
        state.metrics.watch_drift(rewarder.drift.report)
        await asyncio.gather(state.health.watch(), rewarder.drift.watch())


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Runs `work()` in a daemon thread, so that SIGTERM while loading can end the process."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await asyncio.wrap_future(outcome)
