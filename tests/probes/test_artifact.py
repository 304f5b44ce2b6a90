"""A probe survives the disk bit for bit, and one that does not belong is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from candor.probes.artifact import ArtifactError, ProbeMismatch, check, load, save
from candor.probes.card import BoundSpec
from candor.probes.identity import dated_sha256
from candor.probes.probe import Probe
from tests.probes.made import HIDDEN, a_card, a_probe

MODEL: dict[str, Any] = {
    "weights_sha256": "a" * 64,
    "template_sha256": "b" * 64,
    "hidden_size": HIDDEN,
    "num_layers": 2,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "probe", a_probe(), a_card())
    return tmp_path / "probe"


def edit_card(folder: Path, **changes: Any) -> None:
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_saved_is_loaded_bit_for_bit(folder: Path) -> None:
    loaded = load(folder)
    assert torch.equal(loaded.probe.weight, a_probe().weight)
    assert loaded.probe.bias == torch.tensor(0.3).item()
    assert (loaded.probe.name, loaded.probe.layer, loaded.probe.pooling) == (
        "sycophancy",
        2,
        "mean",
    )
    assert loaded.card == a_card()
    assert loaded.card.bound.build()(9.0) == 2.5


def test_saving_what_was_loaded_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    loaded = load(folder)
    save(tmp_path / "again", loaded.probe, loaded.card)
    for name in ("probe.safetensors", "card.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "probe.safetensors"]


def test_a_probe_of_this_very_model_passes_the_check() -> None:
    check(a_card(), **MODEL)


@pytest.mark.parametrize(
    ("differs", "named"),
    [
        ({"weights_sha256": "d" * 64}, r"model weights \(probe a{12}, model d{12}\)"),
        ({"template_sha256": "d" * 64}, r"chat template \(probe b{12}, model d{12}\)"),
        ({"hidden_size": 8}, r"hidden size \(probe 4, model 8\)"),
        ({"num_layers": 1}, r"layer \(probe reads 2, the model has 0 to 1\)"),
    ],
)
def test_each_mismatch_is_refused_and_named(differs: dict[str, Any], named: str) -> None:
    with pytest.raises(ProbeMismatch, match=named) as caught:
        check(a_card(), **(MODEL | differs))
    assert "candor probe train" in str(caught.value)
    assert str(caught.value).count("(probe") == 1  # and nothing that does not differ


DAY, DAYS_LATER = "2026-11-29", "2026-12-02"
DATED: dict[str, Any] = MODEL | {
    "template_sha256": dated_sha256("b" * 64, DAYS_LATER),
    "undated_template_sha256": "b" * 64,
}
"""A model whose template writes a date."""


def test_a_probe_of_another_date_is_refused_with_the_flag_that_helps() -> None:
    fitted = a_card(template_sha256=dated_sha256("b" * 64, DAY), template_date=DAY)
    with pytest.raises(ProbeMismatch, match=f"give --template-date {DAY}"):
        check(fitted, **DATED)
    same = DATED | {"template_sha256": dated_sha256("b" * 64, DAY)}
    assert check(fitted, **same) is None
    with pytest.raises(ProbeMismatch, match="chat template"):  # a template without a date
        check(fitted, **MODEL)


def test_a_card_from_before_dates_is_accepted_with_a_warning() -> None:
    assert "does not say with which date" in str(check(a_card(), **DATED))
    assert check(a_card(), **MODEL) is None  # the control
    with pytest.raises(ProbeMismatch, match="chat template"):
        check(a_card(template_sha256="e" * 64), **DATED)


def test_a_date_survives_the_disk_and_a_card_without_one_has_no_field(
    tmp_path: Path, folder: Path
) -> None:
    save(tmp_path / "dated", a_probe(), a_card(template_date=DAY))
    assert load(tmp_path / "dated").card.template_date == DAY
    assert "template_date" not in json.loads((folder / "card.json").read_text())


def test_all_that_differs_is_named_at_once() -> None:
    with pytest.raises(ProbeMismatch, match=r"hidden size .*; model weights .*; chat template"):
        check(a_card(), weights_sha256="", template_sha256="", hidden_size=1, num_layers=2)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_card_version_is_refused_before_the_rest_is_read(
    folder: Path, version: object
) -> None:
    (folder / "card.json").write_text(json.dumps({"card_version": version, "new": "fields"}))
    with pytest.raises(ProbeMismatch, match="card_version"):
        load(folder)


def test_a_half_written_artefact_is_refused(folder: Path) -> None:
    (folder / "card.json").unlink()
    with pytest.raises(ArtifactError, match="cut off"):
        load(folder)


def test_a_directory_that_is_no_artefact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is this a probe directory"):
        load(tmp_path)


def test_an_overwrite_that_fails_half_way_leaves_no_old_card_beside_new_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("candor.probes.artifact._replace", no_space)
    with pytest.raises(OSError, match="No space"):
        save(folder, a_probe(), a_card())
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="cut off"):
        load(folder)
    save(folder, a_probe(), a_card())  # and writing it again puts it right
    assert load(folder).card == a_card()


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": torch.zeros(HIDDEN + 1), "bias": torch.tensor(0.0)},
        {"weight": torch.zeros(HIDDEN).double(), "bias": torch.tensor(0.0)},
        {"weight": torch.zeros(HIDDEN)},
        {"weight": torch.zeros(HIDDEN), "bias": torch.tensor(0.0), "mean": torch.zeros(HIDDEN)},
        {"weight": torch.full((HIDDEN,), torch.nan), "bias": torch.tensor(0.0)},
    ],
)
def test_weights_that_do_not_fit_the_card_are_refused(
    folder: Path, tensors: dict[str, torch.Tensor]
) -> None:
    assert set(load_file(folder / "probe.safetensors")) == {"weight", "bias"}
    save_file(tensors, folder / "probe.safetensors")
    with pytest.raises(ArtifactError, match=r"probe\.safetensors"):
        load(folder)


def test_damaged_files_are_refused(folder: Path) -> None:
    (folder / "probe.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ArtifactError, match="cannot read"):
        load(folder)
    (folder / "card.json").write_text('{"card_version": 1,')
    with pytest.raises(ArtifactError, match="not JSON"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"layer": "2"}, "layer"),
        ({"surprise": 1}, "surprise"),
        ({"bound": {"kind": "clip", "low": 1.0}}, "bound"),
        ({"pooling": "median"}, "pooling"),
    ],
)
def test_a_card_with_a_wrong_field_is_refused_and_the_field_named(
    folder: Path, changes: dict[str, Any], field: str
) -> None:
    edit_card(folder, trait="Unharmed.")
    assert load(folder).card.trait == "Unharmed."  # the control: editing as such is no harm
    edit_card(folder, **changes)
    with pytest.raises(ArtifactError, match=field):
        load(folder)


def test_a_card_that_describes_another_probe_is_not_saved(tmp_path: Path) -> None:
    other = Probe("sycophancy", torch.zeros(HIDDEN), 0.0, layer=1)
    with pytest.raises(ValueError, match="the card says"):
        save(tmp_path, other, a_card())
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        save(tmp_path, a_probe(), a_card(metrics={"auroc": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_a_bound_that_cannot_be_built_is_no_card() -> None:
    with pytest.raises(ValueError, match="scale"):
        BoundSpec(kind="tanh", reference=0.0)
