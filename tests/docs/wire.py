"""The answers that the trainers' pages print, from a live server.

    python -m tests.docs.wire           # prints them
    python -m tests.docs.wire --write   # writes them into docs/trainers/

The server is the one of the pages' own line, on the demo's reward model and probe, in float32.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from candor.jobs.running.processes import free_port
from tests.docs.session import make_clone
from tests.docs.trainer_pages import PAGES, Exchange, exchanges, start_lines, text_of
from tests.paths import ROOT
from tests.service.serving import wait_for

DEMO = ROOT / "build" / "demo"
START_S = 1800
DIGITS = 3
WIDTH = 150
IN_ADAPTERS = frozenset({"model", "usage", "timings", "warnings"})
LEFT_OUT = {
    "http": frozenset({"timings"}),
    "trl": IN_ADAPTERS,
    "verl": IN_ADAPTERS,
    "verifiers": IN_ADAPTERS,
    "nemo": IN_ADAPTERS,
}
"""By page: fields of an answer of `/v1/rewards` that it does not print."""
HASHES = {"revision", "sha256", "probes_sha256"}


@contextlib.contextmanager
def served(folder: Path, lines: str, model: Path, probe: Path) -> Iterator[httpx2.Client]:
    """A client, with the key, of the server that a page's lines start in a folder."""
    port = free_port()
    clone = make_clone(folder)
    lines = lines.replace("path/or/hub-id", str(model)).replace("probes/sycophancy", str(probe))
    lines = re.sub(r"^candor serve", "exec candor serve", lines, flags=re.MULTILINE)
    log = folder / "log"
    variables = {
        "PATH": f"{clone / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "CANDOR_SERVE_PORT": str(port),
        "CANDOR_SERVE_DTYPE": "float32",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("w") as file:
        process = subprocess.Popen(
            ["bash", "-c", lines], cwd=folder, env=os.environ | variables, stdout=file, stderr=file
        )
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=300)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx2.TransportError):
            return client.get("/readyz").status_code == 200
        return False

    try:
        with client:
            wait_for(ready, START_S)
            client.headers["Authorization"] = f"Bearer {(folder / 'api.key').read_text().strip()}"
            yield client
    finally:
        process.terminate()
        process.wait(60)


def asked(client: httpx2.Client, page: Path, exchange: Exchange) -> Any:
    """The server's answer, as the page prints it."""
    response = client.post(exchange.path, json=json.loads(exchange.request))
    assert response.status_code == 200, f"{page.name} {exchange.path}: {response.text}"
    answer = response.json()
    if exchange.path == "/v1/rewards":
        answer = {name: answer[name] for name in answer if name not in LEFT_OUT[page.stem]}
    return shortened(answer)


def shortened(value: Any, name: str = "") -> Any:
    """Numbers rounded; hashes and the ids of requests cut."""
    if isinstance(value, dict):
        return {key: shortened(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [shortened(part, name) for part in value]
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, str) and name in HASHES:
        return f"{value[:6]}..."
    if (
        isinstance(value, str)
        and name == "id"
        and (cut := re.match(r"([a-z]+-)?[0-9a-f]{8,}", value))
    ):
        return f"{cut[1] or ''}..."
    return value


def formatted(value: Any, at: int = 0) -> str:
    """JSON with as much on a line as `WIDTH` takes, `at` being the column where it begins."""
    flat = json.dumps(value, ensure_ascii=False)
    if at + len(flat) <= WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    if isinstance(value, dict):
        named = {f"{json.dumps(name)}: ": part for name, part in value.items()}
        parts = [name + formatted(part, at + 1 + len(name)) for name, part in named.items()]
    else:
        parts = [formatted(part, at + 1) for part in value]
    joined = f",\n{' ' * (at + 1)}".join(parts)
    return f"{{{joined}}}" if isinstance(value, dict) else f"[{joined}]"


def answers(folder: Path) -> Iterator[tuple[Path, Exchange, Any]]:
    """(page, exchange, answer) of every exchange, with a server for each start line. The page on
    HTTP is first: its `usage` is that of a context that no one has asked about."""
    pages = sorted(PAGES, key=lambda page: page.stem != "http")
    lines = dict.fromkeys(map(start_lines, pages))
    for number, line in enumerate(lines):
        own = folder / str(number)
        with served(own, line, DEMO / "model", DEMO / "probes" / "sycophancy") as client:
            for page in (one for one in pages if start_lines(one) == line):
                for exchange in exchanges(page):
                    yield page, exchange, asked(client, page, exchange)


def main() -> None:
    parser = argparse.ArgumentParser(description="The answers that the trainers' pages print.")
    parser.add_argument("--write", action="store_true", help="write them into docs/trainers/")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        found = [*answers(Path(folder))]
    for page, exchange, answer in found:
        print(f"{page.name}: POST {exchange.path}\n{formatted(answer)}\n")
        if write:
            text, asked_for = text_of(page), f"{exchange.request}```\n"
            begin = text.index('title="answer"\n', text.index(asked_for)) + len('title="answer"\n')
            end = text.index("```", begin)
            page.write_text(f"{text[:begin]}{formatted(answer)}\n{text[end:]}", encoding="utf-8")


if __name__ == "__main__":
    main()
