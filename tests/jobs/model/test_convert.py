"""`candor model convert`: a pickle in the published form becomes a folder that is served as it
was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import save_torch_state_dict

from candor.engines.choose import build_engine
from candor.jobs.model import convert as convert_model
from candor.jobs.model.convert import convert
from candor.jobs.running.exits import Exit
from candor.models.checkpoint import ModelRefused
from candor.models.load import RewardModel, load_reward_model
from candor.probes.identity import weights_sha256
from candor.text.render import Renderer
from candor.text.request import ChatMessage, Messages
from tests.checkpoints import (
    FORMS,
    Checkpoint,
    save_form,
    save_starling,
    save_ultrarm,
)
from tests.service.engines.material import make_items
from tests.tiny import tiny_llama

QUESTION = "Please comment briefly on the following poem. I really like the poem."
OPENING = "Here are my thoughts on the poem:\n"
REPLY = OPENING + "It is very good."


def load(folder: Path) -> RewardModel:
    return load_reward_model(str(folder), device="cpu", dtype="float32")


def served_text(loaded: RewardModel, response: str = REPLY) -> tuple[str, str]:
    """The text whose last token R is read at, and the part that the probe pools over."""
    renderer = Renderer(loaded.tokenizer, max_length=loaded.max_length, ending=loaded.ending)
    item = renderer.encode(Messages((ChatMessage("user", QUESTION),)), response)
    ids = list(item.token_ids)
    bos = loaded.tokenizer.bos_token_id
    assert ids[0] == bos
    assert ids.count(bos) == 1
    span = ids[item.response_start : item.response_end]
    return loaded.tokenizer.decode(ids[1:]), loaded.tokenizer.decode(span)


def check_scores(saved: Checkpoint, loaded: RewardModel, tolerance: float) -> None:
    items = make_items()
    for engine in ("padded", "packed"):
        scores = build_engine(engine, loaded.model, [], device="cpu").score(items).scores
        for item, score in zip(items, scores, strict=True):
            assert score.base_reward == pytest.approx(saved.reward(item.token_ids), abs=tolerance)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def test_starling_is_served_as_the_paper_scored_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts of arXiv 2412.00967, with one BOS where its code had two (docs/decisions.md)."""
    base, out = tmp_path / "llama", tmp_path / "out"
    saved = save_starling(tmp_path / "starling", base)
    assert convert(checkpoint=saved.folder, base=base, out=out, template="starling") == Exit.DONE
    said = last_line(capsys)
    loaded = load(out)
    check_scores(saved, loaded, 1e-4)
    text, probed = served_text(loaded)
    assert text == f"[INST] {QUESTION}\n[/INST] {REPLY}</s>"
    assert probed.strip() == REPLY.strip()
    assert said["weights_sha256"] == loaded.weights_sha256 == weights_sha256(out)
    assert said["template_sha256"] == loaded.template_sha256
    assert (said["ending"], said["max_length"], said["dtypes"]) == ("template", 256, ["float32"])


def test_a_window_of_2048_is_starlings_whatever_its_trunk_takes(tmp_path: Path) -> None:
    base, out = tmp_path / "llama", tmp_path / "out"
    trunk = tiny_llama(vocab_size=400, max_position_embeddings=4096)
    saved = save_starling(tmp_path / "starling", base, trunk)
    assert convert(checkpoint=saved.folder, base=base, out=out, template="starling") == Exit.DONE
    loaded = load(out)
    assert loaded.max_length == 2048
    renderer = Renderer(loaded.tokenizer, max_length=loaded.max_length, ending=loaded.ending)
    long = Messages((ChatMessage("user", "poem " * 3000),))
    item = renderer.encode(long, REPLY, truncation="left")
    assert item.num_tokens == 2048
    assert item.truncated
    kept = loaded.tokenizer.decode(list(item.token_ids))
    assert kept.startswith("<s>")
    assert kept.endswith(f"poem \n[/INST] {REPLY}</s>")


def test_ultrarm_is_served_as_the_paper_scored_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, out = save_ultrarm(tmp_path / "ultrarm"), tmp_path / "out"
    assert convert(checkpoint=saved.folder, out=out, template="ultrarm") == Exit.DONE
    said = last_line(capsys)
    assert (said["ending"], said["max_length"], said["dtypes"]) == ("none", 256, ["float16"])
    loaded = load(out)
    check_scores(saved, loaded, 0.02)  # its weights are in float16
    text, probed = served_text(loaded)
    assert text == f"Human: {QUESTION}\nAssistant: {REPLY}"
    assert probed.strip() == REPLY.strip()


@pytest.mark.parametrize("form", ["trl", "openrlhf", "openrlhf, another name"])
def test_a_safetensors_checkpoint_can_be_converted_for_its_template(
    tmp_path: Path, form: str
) -> None:
    saved, out = save_form(tmp_path / "rm", FORMS[form]), tmp_path / "out"
    assert load(saved.folder).tokenizer.chat_template is None
    assert convert(checkpoint=saved.folder, out=out, template="ultrarm") == Exit.DONE
    loaded = load(out)
    check_scores(saved, loaded, 1e-4)
    assert loaded.tokenizer.chat_template is not None


def test_without_a_template_the_tokenisers_own_is_kept(tmp_path: Path) -> None:
    base, out = tmp_path / "llama", tmp_path / "out"
    saved = save_starling(tmp_path / "starling", base)
    assert convert(checkpoint=saved.folder, base=base, out=out) == Exit.DONE
    assert load(out).tokenizer.chat_template == "{{ 'the base model has one of its own' }}"


@pytest.mark.parametrize("template", ["starling", "ultrarm"])
def test_turns_out_of_order_are_refused_by_the_template(tmp_path: Path, template: Any) -> None:
    saved, out = save_ultrarm(tmp_path / "ultrarm"), tmp_path / "out"
    assert convert(checkpoint=saved.folder, out=out, template=template) == Exit.DONE
    tokenizer = load(out).tokenizer
    for roles in (["system", "user", "assistant"], ["user", "user", "assistant"], ["assistant"]):
        with pytest.raises(Exception, match="turns only"):
            tokenizer.apply_chat_template([{"role": role, "content": "x"} for role in roles])
    turns = [{"role": role, "content": role[0]} for role in ("user", "assistant") * 2]
    assert (
        tokenizer.apply_chat_template(turns, tokenize=False)
        == {
            "starling": "<s>[INST] u\n[/INST] a</s><s>[INST] u\n[/INST] a</s>",
            "ultrarm": "Human: u\nAssistant: a\nHuman: u\nAssistant: a",
        }[template]
    )


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "pytorch_model.bin"
    tensors = torch.load(path, weights_only=True)  # noqa: TID251  the tests' own file
    edit(tensors)
    torch.save(tensors, path)


BROKEN: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no weights": (lambda f, b: (f / "pytorch_model.bin").unlink(), "no .safetensors, .bin or .pt"),
    "not torch's": (
        lambda f, b: (f / "pytorch_model.bin").write_bytes(b"\x80\x04]."),
        "not a plain torch checkpoint",
    ),
    "cut off": (
        lambda f, b: (f / "pytorch_model.bin").write_bytes(
            (f / "pytorch_model.bin").read_bytes()[:9000]
        ),
        "not a plain torch checkpoint",
    ),
    "more than tensors": (
        lambda f, b: torch.save({"state": {}}, f / "pytorch_model.bin"),
        "more than a table of tensors",
    ),
    "the same tensor twice": (
        lambda f, b: torch.save({"v_head.weight": torch.ones(1, 32)}, f / "more.bin"),
        "v_head.weight is in another file",
    ),
    "two trunks that differ": (
        lambda f, b: change(
            f, lambda t: t.update({"transformer.norm.weight": 2 * t["transformer.norm.weight"]})
        ),
        "both model.norm.weight, and they differ",
    ),
    "no head": (lambda f, b: change(f, lambda t: t.pop("v_head.weight")), "no reward head"),
    "two heads": (
        lambda f, b: change(f, lambda t: t.update({"score.weight": t["v_head.weight"]})),
        "2 heads",
    ),
    "an unknown tensor": (
        lambda f, b: change(f, lambda t: t.update({"gate.weight": torch.ones(3)})),
        "gate.weight belongs neither",
    ),
    "a block is missing": (
        lambda f, b: change(
            f, lambda t: [t.pop(name) for name in list(t) if ".layers.1.mlp.up_proj" in name]
        ),
        r"model.layers.1.mlp.up_proj.weight: the checkpoint has none",
    ),
    "another base model": (
        lambda f, b: (b / "config.json").write_text(
            (b / "config.json").read_text().replace('"vocab_size": 400', '"vocab_size": 401')
        ),
        r"embed_tokens.weight: the checkpoint has \(400, 32\), config.json asks for \(401, 32\)",
    ),
    "no configuration": (lambda f, b: (b / "config.json").unlink(), "as --base"),
    "an encoder": (
        lambda f, b: (b / "config.json").write_text('{"model_type": "no-such"}'),
        "no sequence classification for 'no-such'",
    ),
    "no tokeniser": (lambda f, b: (b / "tokenizer.json").unlink(), "does not load"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_converted_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, reason = BROKEN[name]
    base, out = tmp_path / "llama", tmp_path / "out"
    saved = save_starling(tmp_path / "starling", base)
    spoil(saved.folder, base)
    assert convert(checkpoint=saved.folder, base=base, out=out, template="starling") == Exit.USAGE
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(reason, said), said
    assert not out.exists()


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control: an ordinary unpickling does run it."""
    base, out, mark = tmp_path / "llama", tmp_path / "out", tmp_path / "mark"
    saved = save_starling(tmp_path / "starling", base)
    hostile = saved.folder / "pytorch_model.bin"
    torch.save({"v_head.weight": Bomb(mark)}, hostile)
    assert convert(checkpoint=saved.folder, base=base, out=out) == Exit.USAGE
    assert "not a plain torch checkpoint (UnpicklingError)" in capsys.readouterr().err
    assert not mark.exists()
    torch.load(hostile, weights_only=False)  # noqa: TID251
    assert mark.exists()


def test_an_output_that_is_there_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, out = save_ultrarm(tmp_path / "ultrarm"), tmp_path / "out"
    out.mkdir()
    assert convert(checkpoint=saved.folder, out=out) == Exit.USAGE
    assert "exists" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_a_pickle_is_still_not_served_and_the_command_is_named(tmp_path: Path) -> None:
    saved = save_ultrarm(tmp_path / "ultrarm")
    with pytest.raises(ModelRefused, match="'candor model convert'"):
        load(saved.folder)


def test_large_weights_come_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        convert_model,
        "save_torch_state_dict",
        lambda tensors, out: save_torch_state_dict(tensors, out, max_shard_size="40KB"),
    )
    saved, out = save_ultrarm(tmp_path / "ultrarm"), tmp_path / "out"
    assert convert(checkpoint=saved.folder, out=out, template="ultrarm") == Exit.DONE
    assert len(list(out.glob("*.safetensors"))) > 1
    check_scores(saved, load(out), 0.02)
