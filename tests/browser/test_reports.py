"""Reports in a real browser: rankings are what arithmetic says, texts stay texts, nothing is asked
of anybody, and the page can be read and used by everybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from candor.jobs.inspect.command import inspect
from candor.jobs.pages.scored import workbench, write_scored_page
from candor.probes.card import BoundSpec
from candor.probes.combine import Combination
from tests.browser.opening import opened, scored_row
from tests.service.serving import loaded_probe

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ATTACK = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
CROSSING = {"flatters": (3.0, 2.0), "honest": (1.0, 0.5), "dull": (0.5, 0.0), ATTACK: (-1.0, 0.0)}
"""R - lambda * b: the lines of `flatters` and `dull` meet at 5/4, where 3 - 2 * 5/4 = 1/2, before
those of `flatters` and `honest` (at 4/3)."""


def page_of(folder: Path, rows: list[dict[str, Any]], cards: Any = None) -> str:
    write_scored_page(folder / "page.html", "made", workbench(rows, cards or {}), {"by": ATTACK})
    return (folder / "page.html").as_uri()


def order(page: Page) -> list[str]:
    """The candidates' names from the first place to the last."""
    return page.locator(".ranking tbody .name").all_inner_texts()


def set_lambda(page: Page, value: float, name: str = "syc") -> None:
    field = page.get_by_label(f"lambda of {name}", exact=True)
    field.fill(repr(value))
    field.press("Enter")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")


def expected(candidates: dict[str, tuple[float, float]], lambda_: float) -> list[str]:
    rewards = [base - lambda_ * bounded for base, bounded in candidates.values()]
    places = sorted(range(len(rewards)), key=lambda index: (-rewards[index], index))
    return [f"#{index + 1}" for index in places]


def test_the_ranking_is_what_arithmetic_says_at_every_lambda(
    browser: Browser, tmp_path: Path
) -> None:
    with opened(browser, page_of(tmp_path, [scored_row("a", CROSSING)])) as found:
        seen = set()
        for lambda_ in (0.0, 0.4, 1.0, 1.24, 1.26, 1.5, 3.0):
            set_lambda(found.page, lambda_)
            assert order(found.page) == expected(CROSSING, lambda_)
            seen.add(tuple(order(found.page)))
            first = found.page.locator(".ranking tr.winner .c-reward .strong").inner_text()
            best = max(base - lambda_ * b for base, b in CROSSING.values())
            assert float(first.replace("\u2212", "-")) == pytest.approx(best, abs=5e-4)
        assert len(seen) > 2
        assert found.page.locator(".figure.changed").first.inner_text() == "#1 → #3"
        moved = found.page.locator(".ranking tbody tr").first.locator(".moved").inner_text()
        assert moved == "▲2"


def test_the_flips_are_where_the_lines_cross(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, page_of(tmp_path, [scored_row("a", CROSSING)])) as found:
        titles = found.page.locator(".lambda circle.flip title").all_text_contents()
        assert titles == ["at lambda 1.250 the choice goes from #1 to #3"]


@pytest.mark.parametrize("kind", ["sum", "max", "spread"])
def test_several_probes_combine_as_on_the_server(
    browser: Browser, tmp_path: Path, kind: Any
) -> None:
    rng, how = np.random.default_rng(3), Combination(kind, 0.7)
    row = scored_row("a", {f"text {n}": (float(rng.normal()), 0.0) for n in range(6)})
    row["reward_model"]["combine"] = {"kind": kind, "spread_weight": 0.7}
    for score in row["scores"]:
        score["probes"] = {
            name: {"score": float(s), "bounded": float(abs(s)), "lambda": weight}
            for name, s, weight in (("syc", rng.normal(), 1.0), ("len", rng.normal(), 0.5))
        }
        terms = [one["lambda"] * one["bounded"] for one in score["probes"].values()]
        score["penalty"] = how(terms)
        score["reward"] = score["base_reward"] - score["penalty"]
    with opened(browser, page_of(tmp_path, [row])) as found:
        rewards = [score["reward"] for score in row["scores"]]
        assert order(found.page) == [f"#{n + 1}" for n in np.argsort(-np.array(rewards))]
        found.page.locator(".why-box > summary").click()
        assert "served reward to the bit" in found.page.locator(".why p.ok").inner_text()
        set_lambda(found.page, 2.5, "len")
        changed = [
            score["base_reward"]
            - how([score["probes"]["syc"]["bounded"], 2.5 * score["probes"]["len"]["bounded"]])
            for score in row["scores"]
        ]
        assert order(found.page) == [f"#{n + 1}" for n in np.argsort(-np.array(changed))]


def test_a_served_reward_that_is_not_its_parts_is_said_to_be_wrong(
    browser: Browser, tmp_path: Path
) -> None:
    row = scored_row("a", CROSSING)
    for score in row["scores"]:
        score["reward"] += 1e-9
    with opened(browser, page_of(tmp_path, [row])) as found:
        found.page.locator(".why-box > summary").click()
        assert found.page.locator(".why p.bad").count() == 1


def test_texts_stay_texts_and_nothing_is_asked_of_anybody(browser: Browser, tmp_path: Path) -> None:
    rows = [scored_row("a", CROSSING), scored_row("b", {ATTACK: (1.0, 0.0), "x": (0.0, 0.0)})]
    url = page_of(tmp_path, rows)
    with opened(browser, url) as found:
        found.page.get_by_role("button", name="question b").click()
        assert found.page.locator(".whole").inner_text() == ATTACK
        found.page.get_by_role("tab", name="Rows over time").click()
        found.page.locator("rect.press").first.press("Enter")
        assert found.page.locator(".rows-of-bar tbody tr").count() >= 1
        assert found.page.evaluate("window.hacked") is None
        assert found.page.locator("main img").count() == 0
        assert found.requests == [url]


def test_the_policy_stops_what_is_not_the_pages_own(browser: Browser, tmp_path: Path) -> None:
    """The control of the test above: the same page with a script that somebody added."""
    url = page_of(tmp_path, [scored_row("a", CROSSING)])
    path = tmp_path / "page.html"
    html = path.read_text().replace("</main>", "<script>window.hacked = 1</script></main>")
    path.write_text(html.replace("</main>", "<img src='http://127.0.0.1:9/x'></main>"))
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(url)
    assert page.evaluate("window.hacked") is None
    assert sum("Content Security Policy" in one for one in said) >= 2
    context.close()


def test_the_bars_give_their_rows(browser: Browser, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        scored_row(
            f"{n}", {f"{n}.{m}": (float(rng.normal()), float(rng.random())) for m in range(8)}
        )
        for n in range(20)
    ]
    with opened(browser, page_of(tmp_path, rows)) as found:
        found.page.get_by_role("tab", name="Rows over time").click()
        bars = found.page.locator("figure", has_text="R").first.locator("rect.press")
        counts = [
            int(str(one.get_attribute("aria-label")).split(": ")[1].split()[0])
            for one in bars.all()
        ]
        assert sum(counts) == 160
        fullest = counts.index(max(counts))
        bars.nth(fullest).click()
        listed = found.page.locator(".rows-of-bar tbody tr")
        assert listed.count() == counts[fullest]
        flips = sum(
            int(np.argmax([s["base_reward"] for s in row["scores"]]))
            != int(np.argmax([s["reward"] for s in row["scores"]]))
            for row in rows
        )
        assert 0 < flips < 20
        assert found.page.locator(".main-part .figure").inner_text() == f"{flips} of 20"


def long_row(num_candidates: int, num_tokens: int) -> dict[str, Any]:
    """Candidates with the logits of every token, as a server answers `include: ["tokens"]`."""
    rng = np.random.default_rng(1)
    text = " word" * num_tokens
    row = scored_row(
        "long", {f"{n}{text[1:]}": (float(rng.normal()), 1.0) for n in range(num_candidates)}
    )
    for score, response in zip(row["scores"], row["responses"], strict=True):
        response["text"] = text
        logits = rng.normal(size=num_tokens) * 4
        score["probes"]["syc"]["score"] = float(logits.mean())
        score["tokens"] = [
            {"id": 7, "start": 5 * n, "end": 5 * n + 5, "probes": {"syc": float(value)}}
            for n, value in enumerate(logits)
        ]
    return row


def test_sixteen_candidates_of_two_thousand_tokens_stay_fluid(
    browser: Browser, tmp_path: Path
) -> None:
    """The slider's work is per candidate and not per token. The budget is CPU time of the page's
    main thread, because the machine may be busy."""
    cards = {"syc": loaded_probe("syc").card}
    with opened(browser, page_of(tmp_path, [long_row(16, 2000)], cards)) as found:
        found.page.get_by_label("all candidates").check()
        assert found.page.locator(".tok").count() == 16 * 2000
        session = found.page.context.new_cdp_session(found.page)
        session.send("Performance.enable")

        def task_s() -> float:
            metrics = session.send("Performance.getMetrics")["metrics"]
            return float(next(one["value"] for one in metrics if one["name"] == "ScriptDuration"))

        before = task_s()
        slider = found.page.get_by_role("slider").first
        slider.focus()
        for _ in range(40):
            slider.press("ArrowRight")
        per_step = (task_s() - before) / 40
        assert per_step < 0.05


def test_the_heat_map_has_one_scale_and_says_what_counts(browser: Browser, tmp_path: Path) -> None:
    card = loaded_probe("syc").card.model_copy(
        update={"bound": BoundSpec(kind="hinge", reference=0.0)}
    )
    row = long_row(2, 30)
    for pooling, counted in (
        ("mean", 0),
        ("max", 1),
        ("last", 1),
        ("topk", 3),
        ("rolling-max", 10),
    ):
        cards = {"syc": card.model_copy(update={"pooling": pooling})}
        with opened(browser, page_of(tmp_path, [row], cards)) as found:
            assert found.page.locator(".tokens .counts").count() == counted
            ends = found.page.locator(".heatlegend .num").all_inner_texts()
            # The card's p1 and p99 are -3 and 3; single tokens spread more than their means.
            assert ends == (["\u22126.0", "6.0"] if pooling == "mean" else ["\u22123.0", "3.0"])


def test_tokens_are_reached_by_keyboard_and_by_touch(browser: Browser, tmp_path: Path) -> None:
    cards = {"syc": loaded_probe("syc").card}
    url = page_of(tmp_path, [long_row(2, 30)], cards)
    with opened(browser, url, width=390, height=844, has_touch=True, is_mobile=True) as found:
        tokens = found.page.locator(".tokens").first
        tokens.focus()
        found.page.keyboard.press("ArrowRight")
        found.page.keyboard.press("ArrowRight")
        assert "token 2 of 30, id 7" in found.page.locator(".detail").first.inner_text()
        found.page.keyboard.press("End")
        assert "token 30 of 30" in found.page.locator(".detail").first.inner_text()
        found.page.locator(".tok").nth(4).tap()
        assert "token 5 of 30" in found.page.locator(".detail").first.inner_text()


def test_an_emoji_of_several_tokens_is_one_piece(browser: Browser, tmp_path: Path) -> None:
    row = scored_row("a", {"a \U0001f30a\U0001f30a b": (1.0, 0.0)})
    spans = [(0, 1), (1, 3), (2, 3), (2, 3), (3, 4), (4, 6)]
    row["scores"][0]["tokens"] = [
        {"id": n, "start": low, "end": high, "probes": {"syc": float(n)}}
        for n, (low, high) in enumerate(spans)
    ]
    cards = {"syc": loaded_probe("syc").card}
    with opened(browser, page_of(tmp_path, [row], cards)) as found:
        shown = found.page.locator(".tokens .tok").all_text_contents()
        assert shown == ["a", " \U0001f30a", "\U0001f30a", " b"]


CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
"""The contrast of every text with what is under it, by the definition of WCAG 2."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_text_has_contrast_and_fits_the_window(
    browser: Browser, tmp_path: Path, scheme: Any, width: int
) -> None:
    cards = {"syc": loaded_probe("syc").card}
    url = page_of(tmp_path, [long_row(3, 60), scored_row("a", CROSSING)], cards)
    with opened(browser, url, width=width, color_scheme=scheme) as found:
        found.page.locator(".why-box > summary").click()
        texts = found.page.evaluate(CONTRAST)
        assert len(texts) > 100
        low = sorted(one for one in texts if one[0] < 4.5)
        assert low == []
        wider = "document.documentElement.scrollWidth - innerWidth"
        assert found.page.evaluate(wider) <= 0
        sizes = found.page.evaluate(
            "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
        )
        assert min(size for size in sizes if size) >= 11


def test_all_controls_are_reached_by_tab_and_have_names(browser: Browser, tmp_path: Path) -> None:
    url = page_of(tmp_path, [scored_row("a", CROSSING), scored_row("b", CROSSING)])
    with opened(browser, url) as found:
        unnamed = found.page.evaluate(
            "[...document.querySelectorAll('button, input, select, textarea')]"
            ".filter(e => e.checkVisibility() && !(e.textContent.trim() || e.ariaLabel"
            " || e.labels?.length)).map(e => e.outerHTML)"
        )
        assert unnamed == []
        reached = set()
        for _ in range(60):
            found.page.keyboard.press("Tab")
            reached.add(
                found.page.evaluate("document.activeElement.type ?? document.activeElement.tagName")
            )
        assert {"range", "number", "button", "search", "checkbox"} <= reached
        found.page.get_by_role("tab", name="Compare").focus()
        found.page.keyboard.press("ArrowRight")
        tab = found.page.get_by_role("tab", name="Rows over time")
        assert tab.get_attribute("aria-selected") == "true"


def test_the_command_writes_the_page_and_says_what_it_left_out(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = tmp_path / "scored.jsonl"
    scored.write_text("\n".join(json.dumps(scored_row(str(n), CROSSING)) for n in range(3)))
    assert inspect(scored) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"page": f"{scored}.html", "prompts": 3, "flips": 0}
    assert "has no kappa" in said.err
    with opened(browser, Path(f"{scored}.html").as_uri()) as found:
        assert found.page.locator(".prompts li").count() == 3
