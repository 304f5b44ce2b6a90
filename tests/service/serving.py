"""A small server to test against: a random tiny RM with probes and a monitor, on a real port."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import torch
import uvicorn
from fastapi import FastAPI

from candor import errors
from candor.assemble import assemble, build_prefix_cache, start_engine
from candor.client.schema import ErrorEnvelope
from candor.errors import CandorError
from candor.http.app import create_app
from candor.http.guards import Limits
from candor.http.protocol import BoundedProtocol
from candor.item import BatchResult, Engine, Item
from candor.models.load import RewardModel
from candor.probes.artifact import LoadedProbe, save
from candor.probes.card import BoundSpec, Calibration, Card, DataInfo, ModelIdentity
from candor.probes.identity import template_sha256
from candor.probes.probe import Probe
from candor.scoring.rewarder import Rewarder
from candor.scoring.served import Served, ServedProbe
from candor.settings import Settings
from candor.watch.drift_reference import MIN_WINDOW, DriftReference
from candor.watch.metrics import Metrics
from tests.tiny import TURNS, tiny_llama, tiny_tokenizer

LAMBDA = 0.5
WEIGHTS = "0" * 64
TINY: dict[str, Any] = {
    "model": "tiny",
    "max_batch_tokens": 2048,
    "max_queue_tokens": 1_000_000,
    "workers": 1,
    "prefix_cache_mb": 0,
    "drift_window": MIN_WINDOW,
}
BODY: dict[str, Any] = {
    "items": [
        {
            "messages": [{"role": "user", "content": "What do you think of this poem?"}],
            "responses": ["I think it is very good.", "The sea is blue.", "no \U0001f30a"],
        },
        {"prompt": "The poem is", "templated": True, "responses": [" about the sea"]},
    ]
}


def loaded_probe(
    name: str, *, seed: int = 0, layer: int = 1, weights_sha256: str = WEIGHTS
) -> LoadedProbe:
    """A random probe that fits the tiny Llama."""
    weight = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    card = Card(
        name=name,
        trait=f"the text is {name}",
        model=ModelIdentity(id="tiny", weights_sha256=weights_sha256, hidden_size=32, num_layers=2),
        template_sha256=template_sha256(tiny_tokenizer().chat_template),
        layer=layer,
        pooling="mean",
        bound=BoundSpec(kind="clip", low=-3.0, high=3.0),
        calibration=Calibration(
            std_R=2.0,
            std_S=0.5,
            std_bounded_S=0.25,
            percentiles={"p1": -3.0, "p5": -2.0, "p50": 0.0, "p95": 2.0, "p99": 3.0},
            num_prompts=10,
            num_responses=20,
            source="made up",
        ),
        metrics={},
        data=DataInfo(sha256="0" * 64, num_rows=20, num_groups=10, kinds={}),
        versions={},
        created="2026-01-01",
    )
    return LoadedProbe(Probe(name, weight, 0.25, layer, "mean"), card)


def save_probe(folder: Path, name: str, weights_sha256: str) -> Path:
    probe = loaded_probe(name, weights_sha256=weights_sha256)
    save(folder, probe.probe, probe.card)
    return folder


class Scripted(Engine):
    """An engine with faults to order: `before` runs in the model thread ahead of each forward."""

    name = "scripted"

    def __init__(self, inner: Engine, before: Callable[[Sequence[Item]], None]) -> None:
        self.inner = inner
        self.before = before

    def costs(self, items: Iterable[Item]) -> Iterator[int]:
        return self.inner.costs(items)

    def forget(self) -> None:
        self.inner.forget()

    def read_probes(self, probes: Sequence[Probe]) -> None:
        self.inner.read_probes(probes)

    def score(self, items: Sequence[Item]) -> BatchResult:
        self.before(items)
        return self.inner.score(items)


def tiny_probes(*, monitor: bool = True) -> dict[str, ServedProbe]:
    """`sycophancy` penalised, `length` served at 0, `unseen` a monitor."""
    served = {
        "sycophancy": ServedProbe(loaded_probe("sycophancy", seed=1), LAMBDA),
        "length": ServedProbe(loaded_probe("length", seed=2, layer=2), 0.0),
    }
    if monitor:
        served["unseen"] = ServedProbe(loaded_probe("unseen", seed=3), 0.0, monitor=True)
    return served


def tiny_reward_model(template: str | None = TURNS) -> RewardModel:
    tokenizer = tiny_tokenizer(template=template)
    return RewardModel(
        id="tiny",
        model=tiny_llama(),
        tokenizer=tokenizer,
        weights_sha256=WEIGHTS,
        template_sha256=template_sha256(tokenizer.chat_template),
        hidden_size=32,
        num_layers=2,
        max_length=256,
        ending="template",
        dtype="float32",
        device="cpu",
    )


def load_tiny(
    metrics: Metrics,
    *,
    served: Mapping[str, ServedProbe] | None = None,
    before: Callable[[Sequence[Item]], None] | None = None,
    drift_reference: DriftReference | None = None,
    template: str | None = TURNS,
    reward_model: RewardModel | None = None,
    **settings: Any,
) -> Rewarder:
    """`candor.assemble` on a tiny Llama, with `tiny_probes` unless others are given.

    Args:
        before: what `Scripted` calls.
        reward_model: in place of the tiny Llama.
        settings: fields of `Settings` that are not as in `TINY`.
    """
    asked = Settings(**(TINY | settings))
    model = reward_model or tiny_reward_model(template)
    probes = Served(tiny_probes() if served is None else served)
    engine = start_engine(asked, model, probes, build_prefix_cache(asked, metrics))
    if before is not None:
        engine = Scripted(engine, before)
    return assemble(asked, model, engine, probes, drift_reference, metrics)


def tiny_app(
    load: Callable[[Metrics], Rewarder] = load_tiny,
    *,
    limits: Limits | None = None,
    **settings: Any,
) -> FastAPI:
    return create_app(Settings(model="tiny", **settings), load, limits=limits)


@contextlib.contextmanager
def running(
    app: FastAPI, *, ready: bool = True, protocol: type[BoundedProtocol] = BoundedProtocol
) -> Iterator[str]:
    """The app under uvicorn on a free loopback port; yields its URL."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        if ready:
            wait_for(lambda: app.state.server.health.ready)
        yield url
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def score(url: str, body: Any = None, **options: Any) -> httpx2.Response:
    """POST a body (default: the good one) to the scoring route."""
    return httpx2.post(f"{url}/v1/rewards", json=BODY if body is None else body, **options)


def send_bytes(url: str, content: bytes, **headers: str) -> httpx2.Response:
    named = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return httpx2.post(f"{url}/v1/rewards", content=content, headers=named, timeout=60)


def metric(url: str, line: str) -> float:
    """The value of one sample of /metrics, by its full name and labels; 0 if absent."""
    for sample in httpx2.get(f"{url}/metrics").text.splitlines():
        name, _, value = sample.rpartition(" ")
        if name == line:
            return float(value)
    return 0.0


def one(response: str = "a", **fields: Any) -> dict[str, Any]:
    """A body with one item of one response, and other fields as given."""
    return {"items": [{"prompt": "p", "templated": True, "responses": [response]}], **fields}


def error_of(response: httpx2.Response) -> Any:
    """The error in an answer that is an error envelope, and a small one."""
    assert len(response.content) <= 4096
    return ErrorEnvelope.model_validate_json(response.content).error


def subclasses(kind: type[CandorError]) -> Iterator[type[CandorError]]:
    """Every named failure of the service below `kind`."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from subclasses(child)
