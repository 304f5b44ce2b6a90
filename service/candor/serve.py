"""`candor serve`: the life of the process, from `Settings` to the exit status.

Exit status: 0 drained, 1 could not load, 2 wrong settings, 75 cut accepted work (a second signal,
or the end of `--drain-s`).

torch, transformers and the HTTP server are imported where they are used, so that `--help` and a
wrong flag answer at once.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

from candor import logs
from candor.errors import reason_of
from candor.flags import UsageError
from candor.settings import Settings
from candor.variables import KEY_NAMES
from candor.watch.startup import StartUp

if TYPE_CHECKING:
    from candor.http.app import Load

log = logs.get(__name__)

MAX_OPEN_FILES = 65_536
"""Each caller holds one. Trainers open a connection per sample, and the usual limit of 1,024 files
would leave the rest of a rollout, and the health checks, waiting."""

KEEP_ALIVE_S = 65
"""Longer than proxies keep idle connections, so that the proxies close them."""


def serve(settings: Settings) -> None:
    """Serve a reward model with probe penalties over HTTP.

    Raises:
        UsageError: a flag or a file that cannot be right.
    """
    logs.configure()
    if on_command_line(settings.api_key):
        log.warning(
            "key_on_command_line",
            reason="other users of this machine can read it; use CANDOR_API_KEY or --api-key-file",
        )
    settings = settings.with_keys()
    check_address(settings.host, settings.port)
    startup = StartUp()
    startup.begin("libraries")
    from candor import assemble
    from candor.watch.drift_reference import read_reference

    if not sys.stderr.isatty():
        hide_progress_bars()
    startup.begin("probes")
    served = assemble.serve_probes(settings)
    reference = None
    if settings.drift_reference is not None:
        reference = read_reference(settings.drift_reference)
    if settings.insecure_no_auth and settings.api_key is None:
        log.warning("no_auth", reason="anyone who reaches this port can use it")
    status = run(
        settings,
        lambda metrics: assemble.load(settings, served, reference, metrics, startup),
        startup,
    )
    logging.shutdown()
    # Not sys.exit: a forward that hangs would hold the interpreter's exit for ever.
    os._exit(status)


def on_command_line(api_key: str | None) -> bool:
    """Whether the key was given as a flag. From the environment cyclopts gives the same field."""
    return api_key is not None and api_key not in map(os.environ.get, KEY_NAMES)


def check_address(host: str, port: int) -> None:
    """Checks that the address can be bound, before the model is loaded.

    Raises:
        UsageError: another process has the port, or this machine has no such address.
    """
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:  # as asyncio binds it
                    tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
                tried.bind(address)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return
        if error.errno == errno.EADDRINUSE:
            message = f"--port {port}: another process has this port on {host}; give another --port"
        else:
            message = f"--host {host} --port {port}: cannot be bound ({reason_of(error)})"
        raise UsageError(message) from None


def hide_progress_bars() -> None:
    """A progress bar is no JSON line."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    disable_progress_bars()


def raise_file_limit() -> None:
    """Lets this process open up to `MAX_OPEN_FILES` files, as far as the system allows it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def run(settings: Settings, load: Load, startup: StartUp) -> int:
    """Serve until a signal; the exit status. The last line on stderr says why a start failed."""
    import uvicorn

    from candor.http.app import create_app
    from candor.http.protocol import BoundedProtocol
    from candor.http.server import EXIT_WORK_CUT, LAME_DUCK_S, Server
    from candor.watch.health import Health

    raise_file_limit()
    health = Health(startup)
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
    Server(config, health, inspector=settings.serves_inspector).run()
    if health.failed is not None:
        print(f"candor: the server did not start: {health.failed}", file=sys.stderr)
        return 1
    log.info("drained", cut=health.num_cut)
    return EXIT_WORK_CUT if health.num_cut else 0
