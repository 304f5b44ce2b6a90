"""Candor on Ray Serve: the very application of `candor serve`, as replicas behind one URL.

    serve run candor.ray.app:app model=/models/rm insecure_no_auth=true
    serve run examples/ray/serve.yaml

Each replica loads the model itself, answers through the same edge and routes, and is given no work
before its sentinel is scored. Ray restarts a replica that dies or fails its checks, sends no more
to one that leaves, and lets that one finish what it has.

Not here: how many replicas, on what (`deployments:` of the config file), the port (`http_options:`)
and what a caller is told of a replica that dies with their request (`ray_proxy.py`). No choice of
replica by prompt either: a group in one request shares its context, its items sent one by one
may be computed on several replicas (docs/scaling.md).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
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
"""Settings that are not a replica's, and where they are said."""

LOAD_POLL_S = 0.1


@serve.deployment(
    name="Candor",
    # Enough single items for several batches in a replica; the rest waits in the proxy, for
    # whichever replica is free first, and is not lost with one that dies.
    max_ongoing_requests=512,
    max_queued_requests=16_384,
    # A request's own deadline is 95 s unless it states another.
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
        """Called by Ray after `__init__`; loading begins with the application's lifespan."""
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
        """What `/readyz` says, as Ray asks for it; the first check waits for the model.

        Ray gives a replica no work before its first check has passed, and replaces one that has
        failed three in a row.
        """
        while self.health.status == "loading":
            await asyncio.sleep(LOAD_POLL_S)
        if not self.health.ready:
            raise RuntimeError(self.health.failed or self.health.reason)


def app(args: Mapping[str, Any]) -> Application:
    """The application from `args:` of a Serve config file or NAME=VALUE behind `serve run`.

    Args:
        args: fields of `Settings` by name.

    Raises:
        UsageError: a name or value that cannot be right, or no key where others may reach it.
    """
    settings = settings_of(args)
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
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(options.keys() - known):
        names = ", ".join(sorted(known - ELSEWHERE.keys()))
        raise UsageError(f"{unknown[0]}: no such setting; there are {names}")
    try:
        return TypeAdapter(Settings).validate_python(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "args"
        raise UsageError(f"{where}: {first['msg']}") from None
