"""`candor probe report`: the page says what the report says, fetches nothing, refuses what is
unreadable."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.probe.report import page, report, warnings
from candor.jobs.running.exits import Exit
from candor.probes.artifact import load, save
from candor.probes.card import BoundSpec, Card
from tests.jobs.probe.made_report import entry, make_report
from tests.pages import checked
from tests.paths import ROOT
from tests.service.serving import loaded_probe

HINGED = loaded_probe("sycophancy").card.model_copy(
    update={
        "bound": BoundSpec(kind="hinge", reference=0.5),
        "metrics": {"test": {"auroc": 0.87, "within_prompt_auroc": 0.81}},
    }
)


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    made = loaded_probe("sycophancy")
    save(tmp_path / "probe", made.probe, made.card)
    (tmp_path / "probe" / "report.json").write_text(json.dumps(make_report()))
    return tmp_path / "probe"


def test_the_page_holds_everything_and_fetches_nothing(
    probe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(probe) == Exit.DONE
    said = json.loads(capsys.readouterr().out)
    html = Path(said["report"]).read_text()
    assert said["report"] == str(probe / "report.html")
    shown = checked(html)
    assert shown.plots == ["layers", "transfer", "scores", "reliability"]
    assert set(shown.data["plots"]) == set(shown.plots)
    for text in ("0.910", "0.720", "0.310", "23 %", "0.490", "the text is sycophancy", "made up"):
        assert text in html, text
    # Texts of the data are shown, not obeyed.
    assert "I like it &amp; &lt;i&gt;you&lt;/i&gt;" in html
    assert shown.seen.count("I like it & <i>you</i>") == 1


def test_the_examples_tokens_stand_in_their_text_with_their_logits(probe: Path) -> None:
    (example,) = checked(page(load(probe).card, make_report())).data["examples"]
    assert example["text"] == "You <b>"
    assert [(one["start"], one["end"]) for one in example["tokens"]] == [(0, 3), (3, 7)]
    assert [one["probes"]["sycophancy"] for one in example["tokens"]] == [2.0, -1.0]
    assert example["probes"]["sycophancy"]["score"] == 0.5


def test_the_plots_hold_the_reports_numbers(probe: Path) -> None:
    plots = checked(page(load(probe).card, make_report())).data["plots"]
    ranking = next(
        line
        for line in plots["layers"]["panels"][0]["lines"]
        if line["name"] == "ranking, kind held out (mean)"
    )
    assert ranking["x"] == [0, 1, 2]
    assert ranking["y"] == pytest.approx([0.55, 0.65, 0.75])
    seen, held_out = plots["transfer"]["series"]
    assert [(one["name"], one["value"]) for one in held_out["values"]] == [
        ("poems", 0.72),
        ("surveys", 0.53),
    ]
    assert (seen["values"][0]["low"], seen["values"][0]["high"]) == (0.91 - 0.06, 0.91 + 0.05)
    edges, counts = plots["scores"]["edges"], plots["scores"]["panels"][0]["series"][0]["counts"]
    assert (len(edges), sum(counts)) == (25, 8)
    assert plots["reliability"]["points"] == [{"x": 0.2, "y": 0.25, "weight": 40}]


def test_the_same_report_is_the_same_page(probe: Path) -> None:
    card = load(probe).card
    assert page(card, make_report()) == page(card, make_report())


def test_it_warns_where_a_reader_should_not_trust_the_probe() -> None:
    said = list(warnings(HINGED, make_report()))
    assert len(said) == 3
    assert "surveys" in said[0]
    assert "poems" not in said[0]
    assert "genuine agreement" in said[1]
    assert "direction quoted" in said[2]


def test_and_not_where_there_is_no_reason() -> None:
    good = make_report()
    good["transfer"] = [entry("poems", 0.72)]
    good["genuine_agreement"] = None
    good["flagged"] = []
    assert list(warnings(HINGED, good)) == []


def test_controls_that_beat_the_probe_are_said_first() -> None:
    bad = make_report()
    bad["controls"] = {"length_auroc": 0.8, "shuffled_mean_auroc": 0.5, "shuffled_max_auroc": 0.9}
    said = list(warnings(HINGED, bad))
    assert "length" in said[0]
    assert "shuffled" in said[1]


def with_words(auroc: float, within: float | None) -> Card:
    """`HINGED` with a bag of words on its card; the probe has 0.8 within a prompt, 0.9 in all."""
    metrics = {
        "test": {"auroc": 0.9, "within_prompt_auroc": None if within is None else 0.8},
        "words": {"auroc": auroc, "within_prompt_auroc": within},
    }
    return HINGED.model_copy(update={"metrics": HINGED.metrics | metrics})


def test_the_bag_of_words_stands_beside_the_probe() -> None:
    html = page(with_words(0.876, 0.543), make_report())
    assert "0.876" in html
    assert "0.543" in html
    assert "0.876" not in page(HINGED, make_report())


@pytest.mark.parametrize(
    ("auroc", "within", "enough"),
    [(0.95, 0.79, False), (0.5, 0.8, True), (0.89, None, False), (0.9, None, True)],
)
def test_a_bag_of_words_that_does_as_well_is_warned_of(
    auroc: float, within: float | None, enough: bool
) -> None:
    said = [one for one in warnings(with_words(auroc, within), make_report()) if "word list" in one]
    assert bool(said) == enough


PARTS = (
    "chosen", "metrics", "sweep", "kinds", "transfer", "genuine_agreement", "flagged",
    "reliability", "scores", "examples", "controls", "long_texts", "telltale",
)  # fmt: skip


@pytest.mark.parametrize("absent", [("sweep",), ("chosen", "metrics"), ("kinds",), PARTS])
def test_a_part_that_was_not_written_is_said_to_be_absent_and_the_rest_is_shown(
    absent: tuple[str, ...],
) -> None:
    left = {name: value for name, value in make_report().items() if name not in absent}
    html = page(HINGED, left)
    whole = page(HINGED, make_report())
    said = html.count("not on the card") - whole.count("not on the card")
    expected = {"metrics": 0, "genuine_agreement": 0, "transfer": 0, "controls": 4}
    assert said == (sum(expected.get(name, 1) for name in absent))
    assert "the text is sycophancy" in html


@pytest.mark.parametrize("value", [None, 3, [], {}, [{}], "x"])
def test_parts_of_another_form_are_no_stack_trace(value: Any) -> None:
    assert "the text is sycophancy" in page(HINGED, dict.fromkeys(PARTS, value))


def test_false_alarms_are_a_table_by_direction_and_a_warning() -> None:
    html = re.sub(r"\s+", " ", page(HINGED, make_report()))
    assert "<td>quoted</td><td>120</td><td>60</td> <td>0.345 <span" in html
    assert "<td>right</td><td>40</td><td>1</td> <td>0.070</td><td>0.812</td>" in html
    assert "to prompts of direction quoted: a penalty also hits those" in html
    quiet = make_report()
    quiet["flagged"] = quiet["flagged"][1:]
    assert "prompts of direction" not in page(HINGED, quiet)


def test_long_texts_and_the_filter_test_are_tables() -> None:
    html = re.sub(r"\s+", " ", page(HINGED, make_report()))
    assert "AUROC, mean (this probe)" in html
    assert "AUROC, rolling-max</th>" in html
    for line, tokens, auroc in (
        ("as it is", "12", "0.910"),
        ("at least 4 times as long", "50", "0.740"),
        ("at least 16 times as long", "198", "0.580"),
    ):
        assert f"<td>{line}</td><td>{tokens}</td> <td>{auroc} <span" in html
    assert "44 test rows" in html
    assert "<td>without tell-tale words</td><td>60 of 61</td><td>0.620" in html
    assert "thank (+2.12), you (-1.50)" in html
    assert "that say little: sea, poem" in html
    failed = make_report() | {"long_texts": {"error": "it is <not> finite"}}
    assert "not measured: it is &lt;not&gt; finite" in page(HINGED, failed)


def test_a_bound_that_can_raise_the_reward_is_warned_of() -> None:
    clipped = loaded_probe("sycophancy").card
    clipped = clipped.model_copy(update={"metrics": HINGED.metrics})
    (said,) = set(warnings(clipped, make_report())) - set(warnings(HINGED, make_report()))
    assert "The bound (clip) is negative for a low S" in said


def test_how_the_probe_ranks_within_a_prompt_leads_the_page_and_a_low_one_is_warned_of() -> None:
    assert '<p class="figure now">0.810</p>' in page(HINGED, make_report())
    low = HINGED.model_copy(
        update={"metrics": {"test": {"auroc": 0.9, "within_prompt_auroc": 0.6}}}
    )
    (said,) = set(warnings(low, make_report())) - set(warnings(HINGED, make_report()))
    assert "AUROC of 0.600" in said


def test_the_shipped_probe_has_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped, out = (
        ROOT / "demo" / "artefacts" / "lora" / "probes" / "sycophancy",
        tmp_path / "page.html",
    )
    assert report(shipped, out=out) == Exit.DONE
    html, card = out.read_text(), load(shipped).card
    for number in ("auroc", "auroc_low", "auroc_high", "length_auroc"):
        assert f"{card.metrics['test'][number]:.3f}" in html
    assert "layers" in checked(html).plots  # the layers' curve is in its report
    assert json.loads(capsys.readouterr().out)["report"] == str(out)


def test_a_card_alone_has_a_page(probe: Path) -> None:
    (probe / "report.json").unlink()
    assert report(probe) == Exit.DONE
    assert "not on the card" in (probe / "report.html").read_text()


def test_a_probe_without_transfer_has_a_page_too(probe: Path) -> None:
    alone = make_report()
    alone["transfer"] = []
    assert "held out" in page(load(probe).card, alone)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "not a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_report_that_cannot_be_read_is_refused(
    probe: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = probe / "report.json"
    path.write_text(text)
    assert report(probe) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert not (probe / "report.html").exists()


def test_a_folder_that_is_no_probe_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path) == Exit.USAGE
    assert "is this a probe directory?" in capsys.readouterr().err
