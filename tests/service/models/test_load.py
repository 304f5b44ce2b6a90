"""Loading: a good folder loads and says what it is; a hostile one is refused with its reason."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Gemma3Config,
    LlamaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTForSequenceClassification,
)

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


def as_snapshot(folder: Path, cache: Path) -> Path:
    """The folder as the hub's cache holds it: files named by their hashes, and links to them."""
    repository = cache / "models--someone--a-reward--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        blob = repository / "blobs" / f"{number:040x}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def test_a_snapshot_of_the_hubs_cache_loads_by_its_path(good: Path, tmp_path: Path) -> None:
    snapshot = as_snapshot(good, tmp_path)
    loaded = load(snapshot)
    assert loaded.id == "someone/a-reward/model"
    assert loaded.weights_sha256 == weights_sha256(good)
    link = tmp_path / "rm"
    link.symlink_to(snapshot)
    assert load(link).weights_sha256 == weights_sha256(good)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("elsewhere.json", "is a link that leaves"),
        ("models--someone--a-reward--model/refs/main", "is a link that leaves"),
        ("models--other--model/blobs/abc", "is a link that leaves"),
        ("models--someone--a-reward--model/blobs/none", "a link to a file that is missing"),
    ],
)
def test_a_snapshot_whose_links_go_elsewhere_is_refused(
    good: Path, tmp_path: Path, target: str, reason: str
) -> None:
    snapshot = as_snapshot(good, tmp_path)
    if not target.endswith("none"):
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / target).write_text("{}")
    (snapshot / "extra.json").symlink_to(tmp_path / target)
    with pytest.raises(ModelRefused, match=reason):
        load(snapshot)


def test_links_into_a_folder_of_blobs_that_is_no_cache_are_refused(
    good: Path, tmp_path: Path
) -> None:
    snapshot = as_snapshot(good, tmp_path)
    renamed = snapshot.parent.rename(snapshot.parent.parent / "shots")
    with pytest.raises(ModelRefused, match="is a link that leaves"):
        load(renamed / snapshot.name)


def test_code_that_a_model_brings_and_does_not_need_is_not_run(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in fine-tunes of models that came to the hub before they came to transformers."""
    marker = folder.parent / "ran"
    code = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nclass LlamaConfig: pass\n"
    for name in ("configuration_llama.py", "modeling_llama.py", "tokenization_llama.py"):
        (folder / name).write_text(code)
    edit(
        folder / "config.json",
        auto_map={
            "AutoConfig": "configuration_llama.LlamaConfig",
            "AutoModelForCausalLM": "someone/llama--modeling_llama.LlamaForCausalLM",
            "AutoModelForSequenceClassification": "modeling_llama.LlamaForSequenceClassification",
        },
    )
    edit(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": [None, "tokenization_llama.PreTrainedTokenizerFast"]},
    )
    loaded = load(folder)
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        assert torch.equal(loaded.model(input_ids=ids).logits, tiny_llama()(input_ids=ids).logits)
    assert not marker.exists()
    assert "config.json has an auto_map" in caplog.text
    assert "is not run" in caplog.text


def test_an_adapter_in_a_subfolder_is_not_loaded_and_not_refused(folder: Path) -> None:
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "adapter_config.json").write_text("{}")
    assert load(folder).num_layers == 2


def test_the_window_of_an_architecture_without_positions_is_given(folder: Path) -> None:
    edit(folder / "config.json", max_position_embeddings=0, candor_max_length=77)
    assert load(folder).max_length == 77


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
    config = OpenAIGPTConfig(vocab_size=320, n_embd=32, n_layer=1, n_head=2, num_labels=1)
    OpenAIGPTForSequenceClassification(config).save_pretrained(folder)


def several_models(folder: Path) -> None:
    Gemma3Config().save_pretrained(folder)


def sentencepiece_alone(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    edit(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15")


def tiktoken_alone(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")


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
        "config.json has an auto_map that names C, which transformers does not have",
    ),
    "remote code for a known model type": (
        lambda f: edit(
            f / "config.json",
            auto_map={
                "AutoConfig": "configuration_llama.LlamaConfig",
                "AutoModelForSequenceClassification": "modeling_rm.LlamaGatedReward",
            },
        ),
        "names LlamaGatedReward",
    ),
    "remote code from another repository": (
        lambda f: edit(f / "config.json", auto_map={"AutoModel": "someone/code--evil.Model"}),
        "names Model",
    ),
    "auto_map not an object": (
        lambda f: edit(f / "config.json", auto_map=["evil.C"]),
        "auto_map is not a JSON object",
    ),
    "remote code in the tokeniser": (
        lambda f: edit(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
        "tokenizer_config.json has an auto_map",
    ),
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
    "several models in one": (several_models, "made of several models"),
    "no class with a reward head": (
        lambda f: edit(f / "config.json", model_type="cohere"),
        "transformers has no cohere with a reward head",
    ),
    "a file of the snapshot is missing": (
        lambda f: (f / "extra.json").symlink_to(f / "blobs" / "abc"),
        "a link to a file that is missing",
    ),
    "SentencePiece alone": (sentencepiece_alone, "pip install sentencepiece"),
    "tiktoken alone": (tiktoken_alone, "pip install tiktoken"),
    "index out of the folder": (index_that_points_outside, "index names ../elsewhere"),
    "encoder": (encoder, r"BertForSequenceClassification \(bert\) is not a causal decoder"),
    "no window": (
        lambda f: edit(f / "config.json", max_position_embeddings=0),
        "max_position_embeddings.*add candor_max_length",
    ),
    "unknown ending": (lambda f: edit(f / "config.json", candor_ending="x"), "candor_ending"),
    "no tokeniser": (lambda f: (f / "tokenizer.json").unlink(), "tokeniser"),
    "tokeniser not JSON": (
        lambda f: (f / "tokenizer.json").write_text("{"),
        "tokeniser does not load: .*JSONDecodeError: Expecting property name",
    ),
    "weights cut off": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:5000]
        ),
        "weights do not load .*SafetensorError: .*download or save it again",
    ),
    "impossible sizes": (
        lambda f: edit(f / "config.json", num_attention_heads=0),
        "(cannot build a llama|cannot read).*: [A-Z][A-Za-z]+: ?.+",
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
    with pytest.raises(ModelRefused, match=r"there is no folder '\.\./no-such-folder'"):
        load_reward_model("../no-such-folder", device="cpu")


def test_no_refusal_rests_on_an_assert_that_python_O_removes() -> None:
    sources = [path.read_text() for path in Path(candor.models.load.__file__).parent.glob("*.py")]
    assert len(sources) == 8
    for source in sources:
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
