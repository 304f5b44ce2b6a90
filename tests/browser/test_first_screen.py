"""What the inspector shows before anybody types: a scored pair, and whether its order flips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from candor.scoring.served import ServedProbe
from demo.next_steps import BODY, CONTENT, RESPONSES
from tests.browser.opening import opened
from tests.service.serving import load_tiny, loaded_probe, running, score, tiny_app

if TYPE_CHECKING:
    from fastapi import FastAPI
    from playwright.sync_api import Browser, Page

SEEDS = range(8)
KEY = "key-for-the-trainer"


def served_with(lambdas: dict[int, float], **settings: Any) -> FastAPI:
    """A tiny RM with random probes, by the seed of each its lambda."""

    def load(metrics: Any) -> Any:
        probes = {
            f"p{seed}": ServedProbe(loaded_probe(f"p{seed}", seed=seed), lambda_)
            for seed, lambda_ in lambdas.items()
        }
        return load_tiny(metrics, served=probes)

    return tiny_app(load, **settings)


@pytest.fixture(scope="module")
def crossing() -> tuple[int, float, int]:
    """The seed of a probe, the lambda at which the example's choice flips, and R's choice."""
    with running(served_with(dict.fromkeys(SEEDS, 0.0))) as url:
        first, second = score(url, BODY).json()["results"][0]["responses"]
    best = 0 if first["base_reward"] >= second["base_reward"] else 1
    chosen, other = (first, second) if best == 0 else (second, first)
    by = chosen["base_reward"] - other["base_reward"]
    found = {}
    for seed in SEEDS:
        steeper = chosen["probes"][f"p{seed}"]["bounded"] - other["probes"][f"p{seed}"]["bounded"]
        if steeper > 0:
            found[seed] = by / steeper
    seed = min(found, key=lambda seed: found[seed])
    return seed, found[seed], best


def order(page: Page) -> list[str]:
    page.locator(".ranking tr.winner").wait_for()
    return page.locator(".ranking tbody .name").all_inner_texts()


def test_it_opens_with_a_pair_that_the_penalty_re_ranks_and_says_so(
    browser: Browser, crossing: tuple[int, float, int]
) -> None:
    seed, lambda_, by_r = crossing
    before = [f"#{by_r + 1}", f"#{2 - by_r}"]
    with running(served_with({seed: 2 * lambda_})) as url, opened(browser, url) as found:
        page = found.page
        assert order(page) == before[::-1]
        assert page.locator(".moved").all_inner_texts() == ["▲1", "▼1"]
        assert page.locator(".figure").inner_text() == " → ".join(before)
        headline = page.locator(".headline").inner_text()
        first, second = (RESPONSES[place].removesuffix(".") for place in (by_r, 1 - by_r))
        assert (
            f"changes the choice: from {before[0]} “{first}” to {before[1]} “{second}”." in headline
        )
        assert page.get_by_label("message", exact=True).input_value() == CONTENT
        assert sum(one.endswith("/v1/rewards") for one in found.requests) == 1
        page.get_by_role("button", name="0", exact=True).click()
        page.locator(".figure", has_text="→").wait_for(state="detached")
        assert order(page) == before
        assert page.locator(".moved").all_inner_texts() == ["", ""]
        assert page.locator(".figure").inner_text() == before[0]


@pytest.mark.parametrize("served", [True, False])
def test_where_no_example_flips_none_is_claimed(
    browser: Browser, crossing: tuple[int, float, int], served: bool
) -> None:
    """The control: the same model and probe without a penalty, and the model without a probe."""
    seed, _, by_r = crossing
    app = served_with({seed: 0.0} if served else {})
    with running(app) as url, opened(browser, url) as found:
        assert order(found.page)[0] == f"#{by_r + 1}"
        assert found.page.locator(".figure").inner_text() == f"#{by_r + 1}"
        said = "the penalty leaves R's choice" if served else "No probe is served"
        assert said in found.page.locator(".headline").inner_text()
        assert found.page.locator(".moved").all_inner_texts() == ["", ""]
        assert found.page.get_by_label("message", exact=True).input_value() == CONTENT


def test_a_model_without_a_chat_template_scores_the_example_as_plain_text(browser: Browser) -> None:
    app = tiny_app(lambda metrics: load_tiny(metrics, template=None))
    with running(app) as url, opened(browser, url) as found:
        order(found.page)
        assert found.page.get_by_label("role", exact=True).input_value() == "prompt"
        assert found.page.get_by_label("message", exact=True).input_value() == f"{CONTENT}\n"
        found.errors.clear()  # the browser writes the refusal of the messages on the console


def test_with_a_key_the_page_asks_for_it_and_says_where_it_is_wrong(browser: Browser) -> None:
    with running(tiny_app(api_key=KEY)) as url, opened(browser, url) as found:
        page = found.page
        page.get_by_text("Give the key above").wait_for()
        field = page.get_by_label("API key", exact=True)
        assert field.evaluate("node => node === document.activeElement")
        assert not page.get_by_text("refused this key").count()
        field.fill("another")
        field.press("Enter")
        page.get_by_text("The server refused this key.").wait_for()
        field.fill(KEY)
        field.press("Enter")
        order(page)
        assert not field.is_visible()
        found.errors.clear()  # the browser writes every 401 on the console


def test_on_a_phone_the_question_stands_above_the_ranking(browser: Browser) -> None:
    with running(served_with({})) as url:
        for width, shown in ((390, True), (1280, False)):
            with opened(browser, url, width=width) as found:
                order(found.page)
                question = found.page.locator(".main-part .said", has_text=CONTENT)
                assert question.is_visible() == shown
