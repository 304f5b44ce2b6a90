"""From scored rows to the summary line and the page: what is counted, and what a text may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from candor.jobs.sycophancy.judges import sentiment
from candor.jobs.sycophancy.measure import RULES
from candor.jobs.sycophancy.prompts import CONDITIONS
from demo.poems import report, summary
from tests.demo.poems.rows import score, scored_row
from tests.pages import checked

NS = (1, 2, 4)
TEXTS = (
    "A wonderful, moving poem.",
    "A poem of seven lines.",
    "An awful, boring poem.",
    "It has a good rhythm.",
)
ATTACK = "<script>alert('seen')</script> & <b>a lovely</b> poem"


def made(poems: int = 3, texts: tuple[str, ...] = TEXTS) -> list[dict[str, Any]]:
    return [
        scored_row(f"poem-{number}", condition, 10 * number + index, texts)
        for number in range(poems)
        for index, condition in enumerate(CONDITIONS)
    ]


def best_of(scored: list[dict[str, Any]]) -> summary.BestOfN:
    return summary.measure(list(summary.gather(scored).values()), NS)


def write_page(path: Path, scored: list[dict[str, Any]]) -> str:
    summary.write_page(
        path,
        scored,
        best_of(scored),
        titles={row["meta"]["poem"]: f"Title of {row['meta']['poem']}" for row in scored},
        cards={},
        model={"id": "a model", "formula": "R - 0.5 * hinge(S)"},
        provenance={"seed": "0", "what": ATTACK},
    )
    return path.read_text(encoding="utf-8")


def test_the_summary_has_every_figure_the_readme_documents() -> None:
    scored = made()
    line = summary.as_json(best_of(scored), scored, Path("runs/demo/report.html"))
    assert line.keys() == {
        "n",
        "prompts",
        "candidates",
        "gap",
        "like",
        "dislike",
        "reward_kept",
        "report",
    }
    assert (line["n"], line["prompts"], line["candidates"]) == (4, 9, 36)
    assert line["report"] == "runs/demo/report.html"
    for name in ("gap", "like", "dislike"):
        assert line[name].keys() == {"random", "base", "penalised", "permuted"}
    for rule in RULES:
        difference = line["like"][rule] - line["dislike"][rule]
        assert line["gap"][rule] == pytest.approx(difference, abs=2e-4)


def test_the_figures_are_at_the_largest_n_by_hand() -> None:
    """One poem, rewards that rise with the index: the last text is chosen by R everywhere."""
    scored = made(poems=1)
    for row in scored:
        row["scores"] = [score(float(index), 8.0 * index) for index in range(4)]
    scored[1]["responses"][3]["text"] = "A wonderful poem."
    scored[2]["responses"][3]["text"] = "An awful poem."
    scored[0]["responses"][3]["text"] = "A poem of seven lines."
    line = summary.as_json(best_of(scored), scored, Path("x"))
    assert line["like"]["base"] == 1.0
    assert line["dislike"]["base"] == 0.0
    assert line["gap"]["base"] == 1.0
    # Penalised, the first text of each is chosen: they are one text, and ties count half.
    assert line["like"]["penalised"] == line["dislike"]["penalised"] == 0.5
    # Mean R is 1.5, chosen by R 3, chosen penalised 0.
    # By R the same is gained after an opinion, and the penalty loses the same.
    assert line["reward_kept"] == {"neutral": -1.0, "like": -1.0, "dislike": -1.0}


def test_what_a_lost_response_or_poem_does_to_the_counts() -> None:
    scored = made()
    scored[1]["scores"][2] = {"error": {"type": "empty_response", "message": "no tokens"}}
    assert summary.num_candidates(scored) == 35
    scored[4]["scores"][1:] = [{"error": {"type": "empty_response"}}] * 3
    assert list(summary.gather(scored)) == ["poem-0", "poem-2"]
    titles = dict.fromkeys(["poem-0", "poem-1", "poem-2"], "")
    assert len(summary.choices(scored, titles, most=9)) == 6


def test_neutral_answers_of_one_reward_leave_nothing_to_be_kept() -> None:
    scored = made()
    for row in scored:
        row["scores"] = [score(1.0, float(index)) for index in range(4)]
    with pytest.raises(SystemExit, match="random pick on neutral prompts"):
        best_of(scored)


def test_the_choices_shown_are_those_the_rewards_make_most_different_first() -> None:
    scored = made(poems=4)
    shown = summary.choices(scored, {f"poem-{n}": f"Title {n}" for n in range(4)}, most=3)
    assert len(shown) == 3
    distances = []
    for group in shown:
        row = next(
            row
            for row in scored
            if group["title"].startswith(f"Title {row['meta']['poem'].removeprefix('poem-')},")
            and row["meta"]["condition"] in group["title"].split()
        )
        picks = []
        for rule in ("base_reward", "reward"):
            rewards = [one[rule] for one in group["candidates"]]
            picks.append(rewards.index(max(rewards)))
            assert picks[-1] == max(range(4), key=lambda n: row["scores"][n][rule])
        first, second = (sentiment(row["responses"][pick]["text"]) for pick in picks)
        assert group["candidates"][picks[0]]["notes"] == [f"sentiment {first:+.2f}"]
        distances.append(abs(first - second))
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0


def test_the_page_fetches_nothing_and_runs_nothing_but_its_own_script(tmp_path: Path) -> None:
    page = checked(write_page(tmp_path / "new" / "report.html", made()))
    assert {"table", "figure"} <= set(page.tags)
    assert page.plots == ["gap", "positivity", "reward"]
    gap = {one["name"]: one["y"] for one in page.data["plots"]["gap"]["panels"][0]["lines"]}
    for rule, curve in best_of(made()).curve.items():
        assert gap[report.LABELS[rule]] == pytest.approx(curve.gap.mean(axis=0).tolist())


def test_a_candidate_that_is_markup_stays_text(tmp_path: Path) -> None:
    page = checked(write_page(tmp_path / "report.html", made(texts=(ATTACK,) * 4)))
    assert page.tags.count("script") == 2  # the data and the page's own
    assert page.seen.count(ATTACK) >= 3  # candidates, and the provenance
    assert page.data["groups"][0]["candidates"][0]["text"] == ATTACK


def test_the_page_says_the_numbers_of_the_summary(tmp_path: Path) -> None:
    scored = made()
    page = checked(write_page(tmp_path / "report.html", scored))
    seen = page.seen
    line = summary.as_json(best_of(scored), scored, tmp_path)
    for rule in RULES:
        assert f"{best_of(scored).curve[rule].gap[:, -1].mean():+.3f}" in seen
        assert f"{best_of(scored).curve[rule].like[:, -1].mean():.3f}" in seen
    for share in line["reward_kept"].values():
        assert f"{share:.3f}" in seen
    assert "9 prompts about 3 poems, with 36 candidates" in seen
    assert '"I really like the poem"' in page.data["groups"][0]["title"] + seen


def test_the_same_rows_make_the_same_page(tmp_path: Path) -> None:
    assert write_page(tmp_path / "a.html", made()) == write_page(tmp_path / "b.html", made())


def test_the_table_for_the_terminal_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    summary.print_table(best_of(made()))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 6
    assert "best by penalised reward" in printed.err
