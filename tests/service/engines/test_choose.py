"""The packed engine is used if its scores are right, else the padded engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from candor.engines import choose as engines
from candor.engines import packed
from candor.engines.check import check_items
from candor.engines.choose import build_engine
from candor.engines.padded import PaddedEngine
from candor.engines.prefix_cache import PrefixCache
from candor.forward import blocks
from candor.forward.head import decoder_blocks
from candor.forward.prefix_kv import KeyValues
from candor.probes.probe import Probe
from tests.forward.kernels import PATHS, built, computed_by
from tests.service.engines.material import FAMILIES, make_items, make_probes
from tests.tiny import tiny_gemma2, tiny_llama


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_packed(family: Callable[[], PreTrainedModel]) -> None:
    model = family()
    model.set_attn_implementation("eager")  # as the server loads Gemma 2
    assert build_engine("packed", model, make_probes(model), device="cpu").name == "packed"
    assert build_engine("padded", family(), [], device="cpu").name == "padded"


def test_in_bfloat16_too() -> None:
    assert build_engine("packed", tiny_llama().bfloat16(), [], device="cpu").name == "packed"


def test_a_model_that_cannot_be_packed_is_served_padded_with_its_own_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_llama()
    items = make_items()
    before = [s.base_reward for s in PaddedEngine(model, [], device="cpu").score(items).scores]
    # A model that does not pass on the name of its attention keeps the stock attention.
    monkeypatch.setattr(packed, "NAME", "sdpa")
    engine = build_engine("packed", model, [], device="cpu")
    assert engine.name == "padded"
    assert engine.reason.startswith(
        "cannot be packed: its scores differ from the model's own forward"
    )
    assert model.config._attn_implementation == "sdpa"
    assert [s.base_reward for s in engine.score(items).scores] == before


def test_the_reason_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []

    class Log:
        def warning(self, event: str, **fields: object) -> None:
            told.append({"event": event, **fields})

    monkeypatch.setattr(engines, "log", Log())
    monkeypatch.setattr(packed, "NAME", "sdpa")
    build_engine("packed", tiny_llama(), [], device="cpu")
    assert [entry["event"] for entry in told] == ["packed_engine_refused"]
    assert "differ from the model's own forward" in str(told[0]["reason"])


def test_a_cache_that_gives_other_numbers_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PrefixCache(10**8)
    engine = build_engine("packed", tiny_llama(), [], device="cpu", prefix_cache=cache)
    assert engine.name == "packed"
    assert cache.num_hits > 0
    assert len(cache) == 0
    right = KeyValues.extend

    def wrong(self: KeyValues, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        key, value = right(self, layer, key, value)
        return (key, -value) if self._known else (key, value)

    monkeypatch.setattr(KeyValues, "extend", wrong)
    engine = build_engine("packed", tiny_llama(), [], device="cpu", prefix_cache=cache)
    assert engine.name == "padded"
    assert build_engine("packed", tiny_llama(), [], device="cpu").name == "packed"  # control


def test_a_model_that_rotates_each_batch_otherwise_keeps_no_contexts() -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    cache = PrefixCache(10**8)
    model = tiny_llama(rope_parameters=rope)
    build_engine("packed", model, [], device="cpu", prefix_cache=cache).score(check_items(320))
    assert len(cache) == 0


def test_the_check_covers_what_a_layout_does() -> None:
    from candor.forward.prefix import lay_out

    items = check_items(320)
    layout = lay_out([item.token_ids for item in items])
    assert layout.num_tokens < sum(item.num_tokens for item in items)
    assert max(len(path) for path in layout.paths) == 3
    assert len({path for path in layout.paths}) < len(items)


def test_the_path_of_the_attention_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []

    class Log:
        def info(self, event: str, **fields: object) -> None:
            told.append({"event": event, **fields})

        def warning(self, event: str, **fields: object) -> None:
            assert (
                event == "eager_attention"
            )  # of the last model, which is not loaded by the server

    monkeypatch.setattr(engines, "log", Log())
    for path in PATHS:
        with computed_by(path):
            build_engine("packed", tiny_llama(), [], device="cpu")
    build_engine("packed", tiny_gemma2(), [], device="cpu")
    assert [(entry["attention"], entry["blocks"]) for entry in told] == [
        (f"native-{built().names[torch.float32]}", "own"),  # type: ignore[union-attr]
        ("native-avx512", "own"),
        ("sdpa", "own"),
        ("sdpa", "transformers"),
    ]


def test_blocks_that_give_other_scores_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama()
    items = make_items()
    before = [s.base_reward for s in PaddedEngine(model, [], device="cpu").score(items).scores]
    right = blocks._norm
    monkeypatch.setattr(blocks, "_norm", lambda *given: right(*given) * 1.01)
    engine = build_engine("packed", model, [], device="cpu")
    assert engine.name == "packed"
    assert [s.base_reward for s in engine.score(items).scores] == pytest.approx(before, abs=1e-4)
    assert all("forward" not in vars(block) for block in decoder_blocks(model))


def test_the_reason_says_why_an_engine_runs() -> None:
    packed_engine = build_engine("packed", tiny_llama(), [], device="cpu")
    assert packed_engine.reason == "its scores equal the model's own forward of each text alone"
    assert build_engine("padded", tiny_llama(), [], device="cpu").reason == "asked for"


def test_a_faster_attention_that_leaves_something_out_is_not_used() -> None:
    """transformers' sdpa drops Gemma 2's soft-cap; the loader knows, and the check finds it."""
    model = tiny_gemma2(attn_logit_softcapping=0.05)
    assert model.config._attn_implementation == "sdpa"
    engine = build_engine("padded", model, [], device="cpu")
    assert model.config._attn_implementation == "eager"
    items = make_items()
    plain = tiny_gemma2(attn_logit_softcapping=0.05)
    plain.set_attn_implementation("eager")
    own = PaddedEngine(plain, [], device="cpu").score(items).scores
    found = [score.base_reward for score in engine.score(items).scores]
    assert found == pytest.approx([score.base_reward for score in own], abs=1e-5)
    other = tiny_llama()  # control
    build_engine("padded", other, [], device="cpu")
    assert other.config._attn_implementation == "sdpa"


def test_probes_that_pool_by_the_maximum_do_not_cost_the_fast_attention() -> None:
    """Texts that begin alike have one maximum, and rounding is more than their deviation of 0."""
    for seed in range(5):
        model = tiny_llama(seed=seed)
        probes = [
            Probe(
                f"p{n}", torch.randn(32, generator=torch.Generator().manual_seed(n)), 0.0, n, "max"
            )
            for n in range(3)
        ]
        assert build_engine("padded", model, probes, device="cpu").name == "padded"
        assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("softcap", [0.05, None])
def test_in_bfloat16_rounding_alone_does_not_count_as_something_left_out(
    softcap: float | None,
) -> None:
    model = tiny_gemma2(attn_logit_softcapping=softcap).to(torch.bfloat16)
    build_engine("padded", model, [], device="cpu")
    assert model.config._attn_implementation == ("sdpa" if softcap is None else "eager")
