"""The README of a probe's repository says what the card says."""

from __future__ import annotations

import json

import pytest
import yaml

from candor.jobs.hub.model_card import model_card
from candor.probes.artifact import LoadedProbe, load
from tests.paths import ROOT
from tests.service.serving import loaded_probe

DEMO = ROOT / "demo" / "artefacts" / "lora" / "probes" / "sycophancy"


def metadata(readme: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(readme.split("---\n")[1])
    return found


def test_every_number_of_the_readme_is_the_cards() -> None:
    probe = load(DEMO)
    readme = model_card(probe, "org/probe")
    metrics = json.loads((DEMO / "card.json").read_bytes())["metrics"]
    test, words = metrics["test"], metrics["words"]
    for name, values in (("test rows", test), ("control: a bag of words of the response", words)):
        cells = [
            f"{values[m]:.3f} [{values[f'{m}_low']:.3f}, {values[f'{m}_high']:.3f}]"
            for m in ("auroc", "within_prompt_auroc")
        ]
        assert f"| {name} | {cells[0]} | {cells[1]} |\n" in readme
    assert f"length of the response | {test['length_auroc']:.3f} |" in readme
    assert f"{metrics['shuffled_labels']['mean_auroc']:.3f} | |\n" in readme
    calibration = probe.card.calibration
    assert f"| std(R), within a prompt | {calibration.std_R:.3f} |\n" in readme
    prompts = f"{calibration.num_responses} responses to {calibration.num_prompts} prompts"
    assert f"| calibrated on | {prompts} |\n" in readme
    assert probe.card.trait in readme


def test_the_metadata_names_a_base_model_only_where_it_is_one() -> None:
    probe = loaded_probe("sycophancy")
    assert "base_model" not in metadata(model_card(probe, "org/probe"))  # the card names a folder
    found = metadata(model_card(probe, "org/probe", "org/reward-model"))
    assert found["base_model"] == "org/reward-model"
    assert found["library_name"] == "candor"
    named = probe.card.model.model_copy(update={"id": "lab/rm-1b"})
    card = probe.card.model_copy(update={"model": named})
    readme = model_card(LoadedProbe(probe.probe, card), "org/probe")
    assert metadata(readme)["base_model"] == "lab/rm-1b"
    assert "candor serve --model lab/rm-1b --probe org/probe@COMMIT" in readme


@pytest.mark.parametrize("metrics", [{}, {"test": None}, {"test": {}}])
def test_a_card_without_measurements_says_so(metrics: dict[str, object]) -> None:
    probe = loaded_probe("sycophancy")
    card = probe.card.model_copy(update={"metrics": metrics})
    readme = model_card(LoadedProbe(probe.probe, card), "org/probe")
    assert "The card has no measurement on test rows." in readme
    assert "has no AUROC among the responses to one prompt" in readme  # its caveat
