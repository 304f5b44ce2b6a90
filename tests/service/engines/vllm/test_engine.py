"""A real vLLM behind the server: the numbers of the packed engine, over the same API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from candor import assemble
from candor.engines.check import check_items
from candor.engines.padded import PaddedEngine
from candor.http.app import create_app
from candor.jobs.running.processes import free_port, running
from candor.models.load import load_reward_model
from candor.probes.artifact import save
from candor.probes.card import ModelIdentity
from candor.probes.identity import weights_sha256
from candor.probes.probe import Probe
from candor.settings import Settings
from tests.paths import ROOT
from tests.service import serving
from tests.service.serving import loaded_probe, score, wait_for
from tests.tiny import (
    TURNS,
    VOCAB_SIZE,
    save_tiny,
    tiny_llama,
    tiny_mistral,
    tiny_qwen2,
    tiny_qwen3,
    tiny_tokenizer,
)

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
FAMILIES = ROOT / "tests" / "service" / "engines" / "vllm" / "families.py"
# vLLM's attention on a CPU has no smaller heads.
SIZES = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
NUM_LAYERS = 3
ENVIRONMENT = {"HF_HUB_OFFLINE": "1"}

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
if not (ROOT / ".venv-vllm" / ".installed").is_file():
    pytest.skip("vLLM is not installed: `make vllm`", allow_module_level=True)


def tiny(kind: Any) -> PreTrainedModel:
    made: PreTrainedModel = kind(num_layers=NUM_LAYERS, max_position_embeddings=1024, **SIZES)
    return made


def test_every_family_at_every_layer_gives_the_plain_forward_s_numbers(tmp_path: Path) -> None:
    """And the prefix cache changes none of them, whether it is being filled or read."""
    draw = torch.Generator().manual_seed(0)
    weights = {str(layer): torch.randn(64, generator=draw) for layer in range(NUM_LAYERS + 1)}
    save_file(weights, tmp_path / "probes.safetensors")
    folders = [
        save_tiny(tmp_path / kind.__name__, tiny(kind), tiny_tokenizer(template=TURNS))
        for kind in (tiny_llama, tiny_mistral, tiny_qwen2, tiny_qwen3)
    ]
    done = subprocess.run(
        [PYTHON, FAMILIES, tmp_path / "probes.safetensors", *folders],
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=400,
    )
    probes = [Probe(name, weight, 0.5, int(name)) for name, weight in weights.items()]
    items = check_items(VOCAB_SIZE)
    answers = json.loads(done.stdout.splitlines()[-1])
    for folder, answer in zip(folders, answers, strict=True):
        model = load_reward_model(str(folder), device="cpu", dtype="float32").model
        plain = PaddedEngine(model, probes, device="cpu").score(items).scores
        expected = torch.tensor(
            [[s.base_reward, *(s.readings[p.name].score for p in probes)] for s in plain]
        )
        assert expected.std(dim=0).min() > 0.1
        for turn in answer["turns"]:
            torch.testing.assert_close(torch.tensor(turn), expected, atol=1e-4, rtol=0)
        alone, filling, reading = answer["computed"]
        assert reading <= filling < alone


@dataclass(frozen=True)
class ServedVllm:
    """One vLLM server for all tests below, and what the same files give under the packed engine."""

    url: str
    packed: str
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedVllm]:
    folder = tmp_path_factory.mktemp("vllm")
    model = save_tiny(folder / "rm", tiny(tiny_llama), tiny_tokenizer(template=TURNS))
    probes = {name: folder / name for name in ("sycophancy", "length", "unseen")}
    for layer, (name, path) in enumerate(probes.items(), start=1):
        save_probe(path, name, layer, model)
    settings = Settings(
        model=str(model),
        dtype="float32",
        probes=(str(probes["sycophancy"]), str(probes["length"])),
        monitors=(str(probes["unseen"]),),
        penalties={"sycophancy": 0.5},
    )
    port = free_port()
    command = [str(PYTHON), "-m", "candor", "serve", "--engine=vllm", f"--model={model}"]
    command += ["--dtype=float32", "--penalty=sycophancy=0.5", f"--port={port}"]
    command += [f"--probe={probes['sycophancy']}", f"--probe={probes['length']}"]
    command += [f"--monitor={probes['unseen']}", "--vllm-arg=enforce_eager=true"]
    # A response of more tokens is computed in two steps.
    command += ["--vllm-arg=max_num_batched_tokens=128", "--vllm-arg=max_num_seqs=8"]
    command += [f"--vllm-arg=kv_cache_memory_bytes={2**26}"]
    url = f"http://127.0.0.1:{port}"
    app = create_app(
        settings, lambda m: assemble.load(settings, assemble.serve_probes(settings), None, m)
    )
    with (
        serving.running(app) as packed,
        running(
            command,
            ready_url=f"{url}/readyz",
            log=folder / "log",
            timeout_s=420,
            environment=os.environ | ENVIRONMENT,
        ) as process,
    ):
        yield ServedVllm(url, packed, process)


def save_probe(path: Path, name: str, layer: int, model: Path) -> None:
    made = loaded_probe(name)
    weight = torch.randn(64, generator=torch.Generator().manual_seed(layer))
    sha = weights_sha256(model)
    identity = ModelIdentity(id="rm", weights_sha256=sha, hidden_size=64, num_layers=NUM_LAYERS)
    card = made.card.model_copy(update={"model": identity, "layer": layer})
    save(path, replace(made.probe, weight=weight, layer=layer), card)


OPENING = (
    "I think this poem is very good, and the sea in it is blue and deep and wide and cold. " * 2
)
BODY: dict[str, Any] = {
    "items": [
        {
            "messages": [{"role": "user", "content": "What do you think of this poem? " * 8}],
            "responses": [OPENING + "Yes.", OPENING + "No, I do not.", "The sea.", "The sea."],
        },
        {"prompt": "The poem is", "templated": True, "responses": [" about the sea, " * 30]},
    ],
    "include": ["tokens"],
}


def numbers(answer: httpx2.Response) -> list[float]:
    """Every score of an answer, token logits too."""
    assert answer.status_code == 200, answer.text
    found = []
    for result in answer.json()["results"]:
        for one in result["responses"]:
            found += [one["reward"], one["base_reward"], one["penalty"]]
            found += [v for probe in one["probes"].values() for v in probe.values()]
            found += [v for token in one["tokens"] for v in token["probes"].values()]
    return found


def test_the_answer_is_the_packed_engine_s(served: ServedVllm) -> None:
    """Also the second time, when the prefix cache holds the responses themselves."""
    expected = score(served.packed, BODY)
    first, second = score(served.url, BODY), score(served.url, BODY)
    for answer in first, second:
        assert numbers(answer) == pytest.approx(numbers(expected), abs=1e-4)
        assert answer.json()["model"]["engine"] == "vllm"
    assert expected.json()["model"]["engine"] == "packed"
    best = [[result["best"] for result in a.json()["results"]] for a in (first, expected)]
    assert best[0] == best[1]


def test_a_context_is_computed_once_and_a_response_always(served: ServedVllm) -> None:
    turn = {"role": "user", "content": "What do you think of the sea in this poem? " * 8}
    item = {"messages": [turn], "responses": ["Good.", "Bad.", OPENING, "It is the sea."]}
    usages = [score(served.url, {"items": [item]}).json()["usage"] for _ in range(2)]
    context = usages[0]["num_tokens"] // 4
    assert usages[0]["num_computed_tokens"] < usages[0]["num_tokens"] - 2 * (context // 2)
    responses = score(served.url, {"items": [item], "include": ["tokens"]}).json()["results"][0]
    num_response_tokens = sum(len(one["tokens"]) for one in responses["responses"])
    assert num_response_tokens < usages[1]["num_computed_tokens"] < usages[0]["num_computed_tokens"]


def test_a_text_may_fill_the_window_and_no_more(served: ServedVllm) -> None:
    long = {
        "items": [{"prompt": "The" * 9, "templated": True, "responses": ["Good.", " sea" * 1200]}]
    }
    for url in served.url, served.packed:
        answer = score(url, long)
        assert answer.status_code == 422
        assert (answer.json()["error"]["type"], answer.json()["error"]["response"]) == (
            "too_long",
            1,
        )
    full = {
        "items": [{"prompt": "The sea. " * 500, "templated": True, "responses": ["Good."]}],
        "truncation": "left",
    }
    found, expected = (score(url, full).json()["results"] for url in (served.url, served.packed))
    (one,) = found[0]["responses"]
    assert (one["num_tokens"], one["truncated"]) == (1024, True)
    assert one["reward"] == pytest.approx(expected[0]["responses"][0]["reward"], abs=1e-4)


def test_when_vllm_dies_the_request_fails_and_the_server_is_not_ready(served: ServedVllm) -> None:
    """Last: it ends the vLLM that the other tests use. A request in the engine does not hang."""
    answers: list[httpx2.Response] = []

    def ask_until_it_fails() -> None:
        for turn in count():
            texts = [f" sea {turn} {n}" + " is" * 400 for n in range(64)]
            many = {
                "items": [
                    {"prompt": "The", "templated": True, "responses": [text]} for text in texts
                ]
            }
            answers.append(score(served.url, many, timeout=60))
            if answers[-1].status_code != 200:
                return

    asking = threading.Thread(target=ask_until_it_fails)
    asking.start()
    wait_for(lambda: len(answers) > 0, 60)
    children = psutil.Process(served.process.pid).children(recursive=True)
    (core,) = (child for child in children if "EngineCore" in " ".join(child.cmdline()))
    core.send_signal(signal.SIGKILL)
    asking.join(60)
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 500
    assert answers[-1].json()["error"]["type"] == "engine_failed"
    assert httpx2.get(f"{served.url}/readyz").status_code == 503
    assert httpx2.get(f"{served.url}/livez").status_code == 200
    wait_for(lambda: not any("Worker" in " ".join(c.cmdline()) for c in alive(children)))


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
