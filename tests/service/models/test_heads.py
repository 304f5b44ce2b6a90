"""Reward models with a head of their own: what is served is the head, by hand, at the last token.

Tolerance 1e-4 in float32, as in test_padded.py. The lm_head of every causal-LM form is all NaN, so
one that was used would show.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from candor.engines.choose import EngineName, build_engine
from candor.models.checkpoint import ModelRefused
from candor.models.load import RewardModel, load_reward_model
from candor.probes.probe import Probe
from tests.checkpoints import FORMS, Form, save_form
from tests.service.engines.material import make_items
from tests.tiny import tiny_mistral, tiny_qwen2

TOLERANCE = 1e-4
PROBE = Probe("s", torch.randn(32, generator=torch.Generator().manual_seed(3)), 0.5, 1, "mean")


def load(folder: Path, **options: Any) -> RewardModel:
    return load_reward_model(str(folder), **({"device": "cpu", "dtype": "float32"} | options))


@pytest.mark.parametrize("engine", ["padded", "packed"])
@pytest.mark.parametrize("form", FORMS)
def test_r_and_s_are_those_worked_out_by_hand_alone_and_in_a_batch(
    tmp_path: Path, form: str, engine: EngineName
) -> None:
    saved = save_form(tmp_path / "rm", FORMS[form])
    loaded = load(saved.folder)
    running = build_engine(engine, loaded.model, [PROBE], device="cpu")
    assert running.name == engine
    items = make_items()
    by_hand = [saved.reward(item.token_ids) for item in items]
    assert max(by_hand) - min(by_hand) > 1
    together = running.score(items).scores
    for item, reward, score in zip(items, by_hand, together, strict=True):
        (alone,) = running.score([item]).scores
        assert alone.base_reward == pytest.approx(reward, abs=TOLERANCE)
        assert score.base_reward == pytest.approx(reward, abs=TOLERANCE)
        span = saved.hidden_states(item.token_ids)[1][item.response_start : item.response_end]
        expected = float((span @ PROBE.weight + PROBE.bias).mean())
        assert score.readings["s"].score == pytest.approx(expected, abs=TOLERANCE)
        assert alone.readings["s"].score == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("family", [tiny_qwen2, tiny_mistral])
@pytest.mark.parametrize("form", ["trl", "openrlhf, older"])
def test_other_families_carry_them_too(tmp_path: Path, form: str, family: Any) -> None:
    model: PreTrainedModel = family()
    saved = save_form(tmp_path / "rm", FORMS[form], model=model)
    items = make_items(seed=2)
    scores = build_engine("packed", load(saved.folder).model, [], device="cpu").score(items).scores
    for item, score in zip(items, scores, strict=True):
        assert score.base_reward == pytest.approx(saved.reward(item.token_ids), abs=TOLERANCE)


def test_a_head_is_kept_in_float32_under_a_trunk_in_float16(tmp_path: Path) -> None:
    saved = save_form(tmp_path / "rm", FORMS["ultrarm"], dtype=torch.float16)
    loaded = load(saved.folder, dtype="float16")
    assert loaded.dtype == "float16"
    assert loaded.model.score.weight.dtype == torch.float32
    items = make_items()
    scores = build_engine("packed", loaded.model, [], device="cpu").score(items).scores
    by_hand = [saved.reward(item.token_ids) for item in items]
    # float16 rounds every activation to 11 bits; the rewards spread over more than 1.
    for reward, score in zip(by_hand, scores, strict=True):
        assert score.base_reward == pytest.approx(reward, abs=0.05)


def test_openrlhf_normalises_only_where_the_configuration_says_so(tmp_path: Path) -> None:
    """Its trainer writes mean and std whenever it has evaluated, and normalises on request."""
    raw = save_form(tmp_path / "raw", FORMS["openrlhf"])
    normalised = save_form(tmp_path / "normalised", FORMS["openrlhf, normalised"])
    ids = (5, 6, 7)
    assert normalised.reward(ids) == pytest.approx((raw.reward(ids) - 0.25) / 0.5)
    for saved in (raw, normalised):
        model = load(saved.folder).model
        assert (model.score.bias is None) is (saved is raw)


def test_loading_does_not_say_that_the_head_is_untrained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = save_form(tmp_path / "rm", FORMS["trl"])
    load(saved.folder)
    written = caplog.text + "".join(capfd.readouterr())
    assert "LOAD REPORT" not in written
    assert "newly initialized" not in written


def test_control_transformers_alone_draws_the_head_at_random(tmp_path: Path) -> None:
    saved = save_form(tmp_path / "rm", FORMS["ultrarm"])
    drawn = AutoModelForSequenceClassification.from_pretrained(saved.folder, num_labels=1)
    assert not torch.allclose(drawn.score.weight[0], saved.weight, atol=0.1)
    assert torch.equal(load(saved.folder).model.score.weight[0], saved.weight)


HEADLESS = Form("nothing.weight")


@pytest.mark.parametrize(
    ("form", "extra", "config", "reason"),
    [
        (HEADLESS, {}, {}, "no reward head .*v_head.weight"),
        (
            Form("v_head.summary.0.weight"),
            {"v_head.summary.2.weight": torch.ones(1, 32)},
            {},
            "no reward head",
        ),
        (
            FORMS["trl"],
            {"score.weight": torch.ones(1, 32)},
            {},
            r"2 heads \(score.weight, v_head.summary.weight\)",
        ),
        (
            FORMS["starling"],
            {"regression_head.weight": torch.ones(1, 32)},
            {},
            r"2 heads \(v_head.weight, regression_head.weight\)",
        ),
        (FORMS["openrlhf"], {"gate.weight": torch.ones(4, 32)}, {}, r"hold gate.weight \(1 such\)"),
        (
            FORMS["starling"],
            {"v_head.bias": torch.ones(3)},
            {},
            "v_head.bias has 3 numbers",
        ),
        (FORMS["trl"], {}, {"normalize_reward": True}, "mean None and std None"),
        (
            FORMS["openrlhf"],
            {},
            {"normalize_reward": True, "std": 0.0},
            "std 0.0",
        ),
    ],
)
def test_a_checkpoint_whose_reward_would_not_be_its_own_is_refused(
    tmp_path: Path,
    form: Form,
    extra: dict[str, torch.Tensor],
    config: dict[str, Any],
    reason: str,
) -> None:
    saved = save_form(tmp_path / "rm", form, extra=extra, **config)
    with pytest.raises(ModelRefused, match=reason) as caught:
        load(saved.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (torch.ones(2, 32), "2 labels"),
        (torch.ones(32), "0 labels"),
        (torch.ones(1, 31), r"is \[1, 31\]"),
        (torch.full((1, 32), float("inf")), "not finite"),
    ],
)
def test_a_head_of_another_shape_or_not_finite_is_refused(
    tmp_path: Path, weight: torch.Tensor, reason: str
) -> None:
    form = FORMS["openrlhf, older"]
    saved = save_form(tmp_path / "rm", form, extra={form.weight: weight})
    with pytest.raises(ModelRefused, match=reason):
        load(saved.folder)


def test_old_rotary_buffers_are_no_strangers(tmp_path: Path) -> None:
    """Llama checkpoints of 2023 carry them, UltraRM's among them."""
    extra = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}
    saved = save_form(tmp_path / "rm", FORMS["ultrarm"], extra=extra)
    assert load(saved.folder).num_layers == 2


def test_the_hash_covers_a_head_in_a_file_of_its_own(tmp_path: Path) -> None:
    saved = save_form(tmp_path / "rm", FORMS["trl, a file of its own"])
    before = load(saved.folder).weights_sha256
    path = saved.folder / "value_head.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x00\x00")
    assert load(saved.folder).weights_sha256 != before


def test_labels_of_a_base_models_configuration_do_not_count(tmp_path: Path) -> None:
    labels = {"id2label": {"0": "a", "1": "b", "2": "c"}}
    saved = save_form(tmp_path / "rm", FORMS["starling"], **labels)
    assert json.loads((saved.folder / "config.json").read_text())["id2label"] == labels["id2label"]
    assert load(saved.folder).model.config.num_labels == 1
