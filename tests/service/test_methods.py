"""`--method`: its forms, what follows from a card (thresholds, strengths), and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from candor import assemble
from candor.flags import UsageError
from candor.methods import Use, parse_methods, screen_threshold, use_for
from candor.probes.artifact import save
from candor.probes.card import BoundSpec
from candor.settings import Settings, check_names
from tests.service.serving import loaded_probe

HINGE = BoundSpec(kind="hinge", reference=0.75)
AGREEMENT = {"genuine_agreement": {"threshold": 1.25, "tpr": 0.8, "fpr": 0.1, "num_rows": 9}}


def made(**settings: Any) -> Settings:
    return Settings(model="m", probes=("p",), **settings)


def saved(folder: Path, name: str, **card: Any) -> str:
    """A probe whose card has these fields; std(R) is 2, std(S) 0.5."""
    probe = loaded_probe(name)
    save(folder / name, probe.probe, probe.card.model_copy(update=card))
    return str(folder / name)


def test_a_method_is_for_every_probe_or_for_one() -> None:
    methods = parse_methods(["advantage", "a=project", "b=screen:-0.5"])
    assert use_for("a", methods) == Use("project")
    assert use_for("b", methods) == Use("screen", -0.5)
    assert use_for("c", methods) == Use("advantage")
    assert use_for("c", {}) == Use("subtract")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["penalise"], "--method penalise: must be one of subtract, project, screen, advantage"),
        (["a=b"], "--method a=b: must be one of"),
        ([""], "must be one of"),
        (["project", "screen"], "--method screen: --method without a name is given twice"),
        (["a=project", "a=project"], "--method for a is given twice"),
        (["=project"], "--method =project: no name before '='"),
        (["screen:"], "--method screen:: only screen has a threshold"),
        (["subtract:1"], "only screen has a threshold"),
    ],
)
def test_another_form_is_refused(texts: list[str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_methods(texts)
    assert words in str(raised.value)


def test_a_method_must_name_a_served_probe_and_no_monitor() -> None:
    check_names(made(methods={"a": "project", "*": "screen"}), ["a"], ["m"])
    with pytest.raises(UsageError, match="--method x: no such probe; served probes: a"):
        check_names(made(methods={"x": "project"}), ["a"], [])
    with pytest.raises(UsageError, match="--method m: m is a monitor"):
        check_names(made(methods={"m": "project"}), ["a"], ["m"])


@pytest.mark.parametrize("field", ["penalties", "kappas"])
@pytest.mark.parametrize("name", ["*", "a"])
def test_a_projected_probe_has_no_strength(field: str, name: str) -> None:
    settings = made(methods={name: "project"}, **{field: {"a": 1.0}})
    with pytest.raises(UsageError, match=r"a has --method project.* has no strength"):
        check_names(settings, ["a"], [])
    # The control: another probe's strength is its own matter.
    check_names(made(methods={"a": "project"}, **{field: {"b": 1.0}}), ["a", "b"], [])


def test_the_threshold_is_the_cards_unless_it_is_given(tmp_path: Path) -> None:
    card = loaded_probe("p").card
    assert screen_threshold(card.model_copy(update={"metrics": AGREEMENT, "bound": HINGE})) == 1.25
    assert screen_threshold(card.model_copy(update={"bound": HINGE})) == 0.75
    assert (
        screen_threshold(card.model_copy(update={"metrics": {"genuine_agreement": None}})) is None
    )
    folder = saved(tmp_path, "p", bound=HINGE)
    settings = Settings(model="m", probes=(folder,), methods={"*": "screen"})
    assert assemble.serve_probes(settings).penalised["p"].use == Use("screen", 0.75)
    given = Settings(model="m", probes=(folder,), methods={"p": "screen:-1"})
    assert assemble.serve_probes(given).penalised["p"].use == Use("screen", -1.0)


def test_a_card_without_a_threshold_needs_one(tmp_path: Path) -> None:
    settings = Settings(model="m", probes=(saved(tmp_path, "p"),), methods={"p": "screen"})
    with pytest.raises(UsageError, match="--method p=screen:THRESHOLD"):
        assemble.serve_probes(settings)


@pytest.mark.parametrize(
    ("method", "strengths", "expected"),
    [
        ("subtract", {}, 0.0),
        ("subtract", {"kappas": {"p": 1.0}}, 8.0),  # std(R) 2 / std(bound(S)) 0.25
        ("advantage", {"kappas": {"p": 1.0}}, 8.0),
        ("advantage", {"penalties": {"p": 0.5}}, 0.5),
        ("project", {}, 0.0),
        ("screen:0", {}, 20.0),  # 10 std(R)
        ("screen:0", {"kappas": {"p": 3.0}}, 6.0),
        ("screen:0", {"penalties": {"p": 0.5}}, 0.5),
    ],
)
def test_the_strength_of_each_method(
    tmp_path: Path, method: str, strengths: dict[str, Any], expected: float
) -> None:
    settings = Settings(
        model="m", probes=(saved(tmp_path, "p"),), methods={"p": method}, **strengths
    )
    assert assemble.serve_probes(settings).penalised["p"].default_lambda == expected


def test_a_monitor_keeps_no_method_of_the_others(tmp_path: Path) -> None:
    folders = [saved(tmp_path, name) for name in ("p", "m")]
    settings = Settings(
        model="m", probes=(folders[0],), monitors=(folders[1],), methods={"*": "project"}
    )
    served = assemble.serve_probes(settings)
    assert served.projected == {"p"}
    assert served.everything["m"].method == "subtract"
    assert served.methods == {"p": "project"}
