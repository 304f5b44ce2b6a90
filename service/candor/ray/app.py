"""Candor on Ray Serve: the application of `candor serve`, as replicas behind one URL.

    serve run candor.ray.app:app model=/models/rm insecure_no_auth=true
    serve run examples/ray/serve.yaml

Each replica loads the model itself, has the same routes as `candor serve`, and gets no work before
its sentinel (fixed texts, whose scores must not change) is scored. Ray restarts a replica that dies
or fails its checks. It sends no more work to a replica that is stopping, and lets the replica
finish the work that it has.

Not here: the number of replicas and their devices (`deployments:` of the config file), the port
(`http_options:`), and the answer to a caller whose replica died (`candor.ray.proxy`). Requests are
not routed by prompt: responses in one request share their context, but the same responses in
several requests may be computed on several replicas (docs/scaling.md).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from datetime import date
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError

from candor import assemble, logs
from candor.flags import UsageError
from candor.http.app import create_app
from candor.serve import hide_progress_bars
from candor.settings import Settings
from candor.watch.drift_reference import read_reference
from candor.watch.health import Health
from ray import serve
from ray.serve import Application

ELSEWHERE = {
    "host": "http_options of the config file",
    "port": "http_options of the config file",
    "drain_s": "graceful_shutdown_timeout_s of the deployment",
    "api_key": "api_key_file, so that the key is not in Ray's state",
    "operator_key": "operator_key_file, so that the key is not in Ray's state",
}
"""Settings that a replica does not have, and what to use instead."""

LOAD_POLL_S = 0.1


@serve.deployment(
    name="Candor",
    # Enough single items for several batches in a replica. The other requests wait in the proxy for
    # the replica that is free first, and are not lost when a replica dies.
    max_ongoing_requests=512,
    max_queued_requests=16_384,
    # A replica that is stopping answers what it has in this time.
    graceful_shutdown_timeout_s=100.0,
)
@serve.ingress()
class Candor:
    """One replica.

    Args:
        settings: with files of keys and without keys, since Ray stores and shows what a replica is
            made of. Each replica reads the files, so they must be on every node.

    Raises:
        UsageError: at construction. Ray tries again a few times and then shows the message in
            `serve status`.
    """

    def __init__(self, settings: Settings) -> None:
        logs.configure()
        hide_progress_bars()
        self.health = Health()
        self.settings = settings.with_keys()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application. Ray calls this after `__init__`; loading begins with the application's
        lifespan."""
        settings = self.settings
        served = assemble.serve_probes(settings)
        reference = None
        if settings.drift_reference is not None:
            reference = read_reference(settings.drift_reference)
        return create_app(
            settings,
            lambda metrics: assemble.load(settings, served, reference, metrics),
            health=self.health,
        )

    async def check_health(self) -> None:
        """The state of `/readyz`, in the form of Ray's health checks. The first check waits for the
        model.

        Ray gives a replica no work before its first check has passed, and replaces a replica that
        has failed three checks in a row.

        Raises:
            RuntimeError: the replica is not ready.
        """
        while self.health.status == "loading":
            await asyncio.sleep(LOAD_POLL_S)
        if not self.health.ready:
            raise RuntimeError(self.health.failed or self.health.reason)


def app(args: Mapping[str, Any]) -> Application:
    """The Ray application, from `args:` of a config file or from NAME=VALUE after `serve run`.

    Args:
        args: fields of `Settings` by name.

    Raises:
        UsageError: a name or a value that cannot be right, or no API key.
    """
    settings = settings_of(args)
    if settings.template_date is None:  # one date for all replicas, also for those that start later
        settings = dataclasses.replace(settings, template_date=date.today())
    if settings.api_key_file is None and not settings.insecure_no_auth:
        raise UsageError(
            "there is no API key, and everyone who reaches Ray's proxy reaches the model: give "
            "api_key_file, or say insecure_no_auth: true"
        )
    bound: Application = Candor.bind(settings)  # type: ignore[attr-defined]
    return bound


def settings_of(options: Mapping[str, Any]) -> Settings:
    """`Settings` from plain values. A text becomes a number where the field is a number.

    Raises:
        UsageError: the message names the first wrong field.
    """
    for name in options:
        if name in ELSEWHERE:
            raise UsageError(f"{name}: not a setting of a replica; use {ELSEWHERE[name]}")
    settings = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(options.keys() - settings):
        names = ", ".join(sorted(settings - ELSEWHERE.keys()))
        raise UsageError(f"{unknown[0]}: no such setting; there are {names}")
    try:
        # A replica does not know which address the proxy has, so the inspector must be asked for.
        return TypeAdapter(Settings).validate_python({"inspector": False, **options})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "args"
        raise UsageError(f"{where}: {first['msg']}") from None
