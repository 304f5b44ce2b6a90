"""The exports of `candor.probes`, and the example in its docstring."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import candor.probes
from candor.engines.padded import PaddedEngine
from candor.item import Item
from candor.probes import Bound, Probe, load, save
from candor.probes.card import BoundSpec, ModelIdentity
from tests.probes.made import a_card
from tests.tiny import tiny_llama


def test_the_example_scores_a_response_as_the_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, probe = tiny_llama(), Probe("sycophancy", torch.linspace(-2, 3, 32), 0.3, 1, "topk")
    item = Item(tuple(range(40, 64)), 7, 20)
    (expected,) = PaddedEngine(model, [probe], device="cpu").score([item]).scores
    identity = ModelIdentity(id="tiny", weights_sha256="a" * 64, hidden_size=32, num_layers=2)
    bound = BoundSpec(kind="clip", low=-0.1, high=0.1)
    card = a_card(model=identity, layer=1, pooling="topk", bound=bound)
    save(tmp_path / "probes" / "sycophancy", probe, card)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "Path": Path,
        "load": load,
        "model": model,
        "input_ids": torch.tensor([item.token_ids]),
        "response_start": item.response_start,
        "response_end": item.response_end,
    }
    assert candor.probes.__doc__ is not None
    example = textwrap.dedent(candor.probes.__doc__.split("\n\n")[1])
    with torch.inference_mode():
        exec(example, names)  # noqa: S102  our own docstring
    reading = expected.readings["sycophancy"]
    assert names["score"] == pytest.approx(reading.score, abs=1e-4)
    assert names["bound"] == Bound("clip", -0.1, 0.1)
    assert names["penalty"] == pytest.approx(0.5 * max(-0.1, min(0.1, reading.score)), abs=1e-6)


def test_what_is_exported_is_there_and_nothing_else() -> None:
    assert all(callable(getattr(candor.probes, name)) for name in candor.probes.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        candor.probes.fit  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "needs_torch"),
    [("import candor.probes.bound", False), ("from candor.probes import load", True)],
)
def test_the_package_loads_torch_only_when_it_is_needed(statement: str, needs_torch: bool) -> None:
    code = f"import sys\n{statement}\nassert ('torch' in sys.modules) is {needs_torch}"
    subprocess.run([sys.executable, "-c", code], check=True)
