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
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from huggingface_hub.utils.tqdm import disable_progress_bars
from pydantic import TypeAdapter, ValidationError
from transformers.utils.logging import disable_progress_bar as disable_loading_bar

from candor import assemble, logs
from candor.http.app import create_app
from candor.serve import read_key_file
from candor.settings import Settings, SettingsError
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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeyFiles:
    """Where each replica reads the keys: the files must be on every node."""

    api: Path | None = None
    operator: Path | None = None


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
        settings: without keys, since Ray stores and shows what a replica is made of.
        key_files: the keys, read here.

    Raises:
        SettingsError, ArtifactError, DriftReferenceError, GateError: at construction; Ray tries
            again a few times and then tells it in `serve status`.
    """

    def __init__(self, settings: Settings, key_files: KeyFiles) -> None:
        logs.configure()
        disable_loading_bar()  # type: ignore[no-untyped-call]
        disable_progress_bars()
        self.health = Health()
        self.settings = dataclasses.replace(
            settings,
            api_key=read_key_file("api_key_file", key_files.api),
            operator_key=read_key_file("operator_key_file", key_files.operator),
        )

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
        args: fields of `Settings` by name, and `api_key_file` and `operator_key_file`.

    Raises:
        SettingsError: a name or value that cannot be right, or no key where others may reach it.
    """
    options = dict(args)
    key_files = KeyFiles(
        **{
            name: Path(options.pop(f"{name}_key_file"))
            for name in ("api", "operator")
            if f"{name}_key_file" in options
        }
    )
    settings = settings_of(options)
    if key_files.api is None and not settings.insecure_no_auth:
        raise SettingsError(
            "there is no API key, and who reaches Ray's proxy reaches the model: give "
            "api_key_file, or say insecure_no_auth: true"
        )
    bound: Application = Candor.bind(settings, key_files)  # type: ignore[attr-defined]
    return bound


def settings_of(options: Mapping[str, Any]) -> Settings:
    """`Settings` from plain values; texts are made numbers where a field is one.

    Raises:
        SettingsError: with the first field to blame.
    """
    for name in options:
        if name in ELSEWHERE:
            raise SettingsError(f"{name}: not a setting of a replica; use {ELSEWHERE[name]}")
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(options.keys() - known):
        ours = {"api_key_file", "operator_key_file"}
        names = ", ".join(sorted(known - ELSEWHERE.keys() | ours))
        raise SettingsError(f"{unknown[0]}: no such setting; there are {names}")
    try:
        return TypeAdapter(Settings).validate_python(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if isinstance(refused := first.get("ctx", {}).get("error"), SettingsError):
            raise refused from None
        where = ".".join(str(part) for part in first["loc"]) or "args"
        raise SettingsError(f"{where}: {first['msg']}") from None
