"""Loading: a good folder loads and says what it is; a hostile one is refused with its reason."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaForCausalLM,
)

import candor.models.checkpoint
import candor.models.heads
import candor.models.load
from candor.forward import precision
from candor.models.checkpoint import ModelRefused
from candor.models.load import RewardModel, load_reward_model
from candor.probes.identity import template_sha256, weights_sha256
from tests.service.text.templates import DATED, RANDOM
from tests.tiny import TURNS, save_tiny, tiny_gemma2, tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "good", tiny_llama(), tiny_tokenizer())


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(good, tmp_path / "rm"))


def load(folder: Path, **options: Any) -> RewardModel:
    return load_reward_model(str(folder), **({"device": "cpu"} | options))


def edit(path: Path, **changes: Any) -> None:
    """Sets keys of a JSON object; None removes one."""
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: v for key, v in value.items() if v is not None}))


def test_a_good_folder_loads_and_says_what_it_is(good: Path) -> None:
    loaded = load(good)
    assert loaded.id == "good"
    assert loaded.weights_sha256 == weights_sha256(good)
    assert loaded.template_sha256 == template_sha256(TURNS)
    assert (loaded.hidden_size, loaded.num_layers, loaded.max_length) == (32, 2, 256)
    assert (loaded.ending, loaded.dtype, loaded.device) == ("template", "float32", "cpu")
    assert not loaded.model.training
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        assert torch.equal(loaded.model(input_ids=ids).logits, tiny_llama()(input_ids=ids).logits)


def test_the_date_is_part_of_the_identity_of_a_template_that_writes_it(
    folder: Path, good: Path
) -> None:
    tiny_tokenizer(template=DATED).save_pretrained(folder)
    one, same, other = (load(folder, template_date=date(2026, 11, day)) for day in (29, 29, 30))
    assert one.template_date == date(2026, 11, 29)
    assert one.template_sha256 == same.template_sha256
    assert one.template_sha256 != other.template_sha256
    assert one.undated_template_sha256 == other.undated_template_sha256 == template_sha256(DATED)
    assert load(folder).template_date == date.today()
    control = load(good, template_date=date(2026, 11, 29))
    assert control.template_date is control.undated_template_sha256 is None
    assert control.template_sha256 == template_sha256(TURNS)


def test_a_template_that_draws_at_random_is_refused(folder: Path) -> None:
    tiny_tokenizer(template=RANDOM).save_pretrained(folder)
    with pytest.raises(ModelRefused, match="another text each time"):
        load(folder)


def test_a_model_without_a_chat_template_loads(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "rm", tiny_llama(), tiny_tokenizer(template=None))
    loaded = load(folder)
    assert loaded.tokenizer.chat_template is None
    assert loaded.template_sha256 == template_sha256(None)


@pytest.mark.parametrize("ending", ["template", "end_token", "none"])
def test_the_ending_comes_from_the_configuration(folder: Path, ending: str) -> None:
    edit(folder / "config.json", candor_ending=ending)
    assert load(folder).ending == ending


@pytest.mark.parametrize(("has", "served"), [(True, "bfloat16"), (False, "float32")])
def test_auto_dtype_on_a_cpu_is_the_checkpoints_own_where_that_is_not_slow(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    has: bool,
    served: str,
) -> None:
    folder = save_tiny(tmp_path / "rm", tiny_llama().bfloat16(), tiny_tokenizer())
    monkeypatch.setitem(precision._SUPPORTED, torch.bfloat16, lambda: has)
    loaded = load(folder)
    assert loaded.dtype == served
    assert loaded.model.dtype == getattr(torch, served)
    assert ("weights are bfloat16" in caplog.text) is not has
    assert load(folder, dtype="bfloat16").dtype == "bfloat16"


def test_a_dtype_that_is_asked_for_is_kept(good: Path) -> None:
    assert load(good).dtype == "float32"
    for dtype in ("float32", "bfloat16", "float16"):
        assert load(good, dtype=dtype).dtype == dtype


def test_the_window_is_shorter_where_the_configuration_says_what_was_trained_on(
    folder: Path,
) -> None:
    assert load(folder).max_length == 256
    edit(folder / "config.json", candor_max_length=100)
    assert load(folder).max_length == 100


def test_attention_soft_capping_is_not_lost(tmp_path: Path) -> None:
    """The default attention of transformers drops it silently; the control shows the cost."""
    model = tiny_gemma2(attn_logit_softcapping=0.05)
    folder = save_tiny(tmp_path / "rm", model, tiny_tokenizer())
    ids = torch.arange(10, 40)[None]
    with torch.inference_mode():
        served = load(folder).model(input_ids=ids).logits
        model.set_attn_implementation("eager")
        capped = model(input_ids=ids).logits
        model.set_attn_implementation("sdpa")
        uncapped = model(input_ids=ids).logits
    assert torch.allclose(served, capped, atol=1e-5)
    assert not torch.allclose(served, uncapped, atol=1e-2)


def test_links_inside_a_folder_are_allowed(folder: Path) -> None:
    (folder / "blobs").mkdir()
    (folder / "model.safetensors").rename(folder / "blobs" / "abc")
    (folder / "model.safetensors").symlink_to(Path("blobs") / "abc")
    assert load(folder).num_layers == 2


def test_sharded_weights_load(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "rm", max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(tmp_path / "rm")
    assert len(list((tmp_path / "rm").glob("*.safetensors"))) > 1
    assert load(tmp_path / "rm").num_layers == 2


def link_out(folder: Path) -> None:
    outside = folder.parent / "elsewhere.safetensors"
    shutil.move(folder / "model.safetensors", outside)
    (folder / "model.safetensors").symlink_to(outside)


def linked_subfolder(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "extra").symlink_to(folder.parent / "elsewhere")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tiny_llama().state_dict(), folder / "pytorch_model.bin")


def nan_head(folder: Path) -> None:
    model = tiny_llama()
    model.score.weight.data[0, 3] = float("nan")
    model.save_pretrained(folder)


def half_a_head(folder: Path) -> None:
    tiny_llama(hidden_size=16).save_pretrained(folder)
    edit(folder / "config.json", hidden_size=32)


def language_model(folder: Path) -> None:
    LlamaForCausalLM(tiny_llama().config).save_pretrained(folder)


def encoder(folder: Path) -> None:
    config = BertConfig(
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)


def other_layout(folder: Path) -> None:
    config = GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=2, num_labels=1)
    GPT2ForSequenceClassification(config).save_pretrained(folder)


def index_that_points_outside(folder: Path) -> None:
    outside = folder.parent / "elsewhere.safetensors"
    shutil.copy(folder / "model.safetensors", outside)
    names = dict.fromkeys(tiny_llama().state_dict(), "../elsewhere.safetensors")
    index = {"metadata": {}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "other.safetensors")


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "link out of the folder": (link_out, "model.safetensors is a link that leaves"),
    "linked subfolder": (linked_subfolder, "extra is a link that leaves"),
    "pickle": (pickled, r"pickle \(pytorch_model.bin\)"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no safetensors weights"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "config not JSON": (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    "unknown model type": (
        lambda f: edit(f / "config.json", model_type="nobody_knows"),
        "cannot read config.json",
    ),
    "remote code in the model": (
        lambda f: edit(f / "config.json", auto_map={"AutoConfig": "evil.C"}),
        "config.json has an auto_map",
    ),
    "remote code in the tokeniser": (
        lambda f: edit(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
        "tokenizer_config.json has an auto_map",
    ),
    "Python file": (lambda f: (f / "modeling_evil.py").write_text("boom"), "modeling_evil.py"),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "adapter"),
    "two labels": (
        lambda f: edit(f / "config.json", id2label={"0": "bad", "1": "good"}, label2id=None),
        "2 labels",
    ),
    "no head": (language_model, "hold no reward head"),
    "weights under another name": (
        lambda f: (f / "model.safetensors").rename(f / "consolidated.safetensors"),
        "neither model.safetensors nor",
    ),
    "too long a window": (
        lambda f: edit(f / "config.json", candor_max_length=257),
        "from 1 to 256",
    ),
    "NaN in the head": (nan_head, "not finite"),
    "weights of another shape": (half_a_head, "do(es)? not (fit|load)"),
    "layout unknown to the probes": (other_layout, "laid out in a way Candor does not know"),
    "index out of the folder": (index_that_points_outside, "index names ../elsewhere"),
    "encoder": (encoder, "and a causal decoder"),
    "no window": (
        lambda f: edit(f / "config.json", max_position_embeddings=0),
        "max_position_embeddings",
    ),
    "unknown ending": (lambda f: edit(f / "config.json", candor_ending="x"), "candor_ending"),
    "no tokeniser": (lambda f: (f / "tokenizer.json").unlink(), "tokeniser"),
    "weights cut off": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:5000]
        ),
        "weights do not load",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_refused_with_its_reason(folder: Path, name: str) -> None:
    spoil, reason = HOSTILE[name]
    spoil(folder)
    with pytest.raises(ModelRefused, match=reason) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) not in message


def test_the_unspoilt_copy_loads(folder: Path) -> None:
    assert load(folder).id == "rm"


def test_a_name_that_is_no_folder_and_not_in_the_cache_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelRefused, match="not a folder"):
        load_reward_model("nobody/nothing", device="cpu")
    with pytest.raises(ModelRefused, match="not a folder"):
        load_reward_model("../no-such-folder", device="cpu")


@pytest.mark.parametrize(
    "module", [candor.models.load, candor.models.checkpoint, candor.models.heads]
)
def test_no_refusal_rests_on_an_assert_that_python_O_removes(module: ModuleType) -> None:
    source = Path(str(module.__file__)).read_text()
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
