"""The live inspector of a tiny server, in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from candor.scoring.served import ServedProbe
from tests.browser.opening import opened, scored_row
from tests.service.serving import (
    load_tiny,
    loaded_probe,
    running,
    tiny_app,
    tiny_probes,
    tiny_reward_model,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

KEY, OPERATOR = "key-for-the-trainer", "key-for-the-operator"
ATTACK = "<script>window.hacked = 1</script>"


def wait_ranked(page: Page) -> None:
    page.locator(".ranking tr.winner").wait_for()


def write(page: Page, question: str, candidates: list[str]) -> None:
    """Fills the form and presses Score."""
    page.locator(".turns textarea").fill(question)
    while page.locator(".options textarea").count() > len(candidates):
        page.get_by_label("remove this candidate").last.click()
    while page.locator(".options textarea").count() < len(candidates):
        page.get_by_role("button", name="add a candidate").click()
    for box, text in zip(page.locator(".options textarea").all(), candidates, strict=True):
        box.fill(text)
    with page.expect_response("**/v1/rewards"):
        page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_text(f"#{len(candidates)}", exact=True).first.wait_for()


def numbers(page: Page, column: str) -> list[float]:
    """A column of the ranking, from the first place to the last."""
    texts = page.locator(f".ranking tbody .c-{column} .num:not(.behind)").all_inner_texts()
    return [float(text.replace("\u2212", "-")) for text in texts]


def test_it_opens_with_a_ranking_and_asks_its_own_server_only(browser: Browser, url: str) -> None:
    with opened(browser, url) as found:
        wait_ranked(found.page)
        assert found.page.url == f"{url}/inspector"
        assert found.page.locator(".status").inner_text() == "ready"
        assert found.page.locator(".figure").first.inner_text().startswith("#")
        assert found.strangers(url) == []


def test_the_ranking_is_the_servers_at_the_lambda_of_the_slider(browser: Browser, url: str) -> None:
    texts = ["I think it is very good.", "The sea is blue.", ATTACK, "thank you \U0001f30a"]
    with opened(browser, url) as found:
        wait_ranked(found.page)
        write(found.page, "What do you think of this poem?", texts)
        field = found.page.get_by_label("lambda of sycophancy", exact=True)
        for lambda_ in (0.0, 0.5, 7.0):
            field.fill(str(lambda_))
            field.press("Enter")
            found.page.wait_for_timeout(100)
            item = {
                "messages": [{"role": "user", "content": "What do you think of this poem?"}],
                "responses": texts,
            }
            body = {"items": [item], "penalties": {"sycophancy": {"lambda": lambda_}}}
            answer = httpx2.post(f"{url}/v1/rewards", json=body).json()
            rewards = [one["reward"] for one in answer["results"][0]["responses"]]
            assert numbers(found.page, "reward") == pytest.approx(
                sorted(rewards, reverse=True), abs=6e-4
            )
        assert found.page.evaluate("window.hacked") is None


def test_why_shows_the_text_the_model_read_and_calls_that_give_the_same(
    browser: Browser, url: str
) -> None:
    with opened(browser, url) as found:
        wait_ranked(found.page)
        write(found.page, "Is the sea blue?", ["The sea is blue.", "The sea is good."])
        found.page.locator(".why-box > summary").click()
        read = found.page.locator("pre.read")
        assert read.inner_text().startswith("<|im_start|>user\nIs the sea blue?<|im_end|>\n")
        winner = found.page.locator(".ranking tr.winner .excerpt").inner_text()
        assert read.locator(".response").inner_text() == winner
        assert "The sea is" not in read.locator(".shared").inner_text()
        base = numbers(found.page, "R")[0]
        curl, python, parity = found.page.locator(".why .copyable pre").all_inner_texts()
        told = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True)
        results = json.loads(told.stdout)["results"][0]
        best = results["responses"][results["best"]]
        assert best["base_reward"] == pytest.approx(base, abs=6e-4)
        ran = subprocess.run(
            [sys.executable, "-c", python], capture_output=True, text=True, check=True
        )
        assert f"best={results['best']}" in ran.stdout
        found.page.get_by_role("button", name="score each candidate alone").click()
        found.page.get_by_text("Largest difference").wait_for()
        difference = found.page.get_by_text("Largest difference").inner_text()
        most = [float(one) for one in re.findall(r"\d\.\d+e[-+]\d+", difference)]
        assert len(most) == 2
        assert max(most) < 1e-4  # float32
        # The program for transformers, on the same model.
        ids = json.loads(re.search(r"ids = (\[.*\])", parity)[1])  # type: ignore[index]
        assert parity_of(ids) == pytest.approx(best["base_reward"], abs=1e-4)


def parity_of(ids: list[int]) -> float:
    """What the page's program computes: transformers on these tokens."""
    import torch

    model = tiny_reward_model().model
    model.config.pad_token_id = None
    with torch.no_grad():
        return float(model(torch.tensor([ids])).logits[0, 0])


def test_what_was_cut_is_marked(browser: Browser, url: str) -> None:
    with opened(browser, url) as found:
        wait_ranked(found.page)
        found.page.get_by_label("truncation").select_option("left")
        write(found.page, "begin " + "word " * 400 + "end", ["The sea is blue."])
        found.page.locator(".why-box > summary").click()
        cut = found.page.locator("pre.read .cut").inner_text()
        assert "begin" in cut
        assert "end<|im_end|>" not in cut
        assert found.page.locator(".tag", has_text="context cut").count() == 1


def test_an_error_of_the_server_names_the_candidate(browser: Browser, url: str) -> None:
    with opened(browser, url) as found:
        wait_ranked(found.page)
        found.page.locator(".options textarea").nth(1).fill("")
        found.page.get_by_role("button", name="Score", exact=True).click()
        message = found.page.locator(".error").filter(has_text="candidate #2")
        message.wait_for()
        assert "empty_response" in message.inner_text()
        found.errors.clear()  # the browser writes every status of 400 or more on the console


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ('{"messages": [{"role": "user", "content": "Q"}], "responses": ["a", {"text": "b"}]}', 2),
        ('{"prompt": "Q", "chosen": "good", "rejected": "bad"}', 2),
        ('[{"role": "user", "content": "Q"}, {"role": "assistant", "content": "one"}]', 1),
        ('{"prompt": [{"role": "user", "content": "Q"}], "completion": "one"}', 1),
        ("first\n---\nsecond\n---\nthird", 3),
    ],
)
def test_rows_in_other_forms_are_read(
    browser: Browser, url: str, text: str, candidates: int
) -> None:
    with opened(browser, url) as found:
        wait_ranked(found.page)
        found.page.get_by_text("paste or load").click()
        found.page.get_by_label("paste", exact=True).fill(text)
        with found.page.expect_response("**/v1/rewards") as answered:
            found.page.get_by_role("button", name="read the text above").click()
        assert len(answered.value.json()["results"][0]["responses"]) == candidates


def test_scored_rows_are_listed_and_a_text_that_is_no_row_is_refused(
    browser: Browser, url: str, tmp_path: Path
) -> None:
    rows = [scored_row(key, {"x": (1.0, 2.0), "y": (0.5, 0.0)}) for key in "abc"]
    (tmp_path / "scored.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with opened(browser, url) as found:
        wait_ranked(found.page)
        found.page.get_by_text("paste or load").click()
        found.page.get_by_label("load a file").set_input_files(tmp_path / "scored.jsonl")
        found.page.get_by_role("heading", name="Scored").wait_for()
        assert found.page.locator(".prompts .tag", has_text="flips").count() == 3
        found.page.get_by_label("paste", exact=True).fill('{"text": "no row"}')
        found.page.get_by_role("button", name="read the text above").click()
        assert "needs 'messages'" in found.page.locator(".editor .error").inner_text()


def with_keys() -> Any:
    def load(metrics: Any) -> Any:
        probes = {
            **tiny_probes(monitor=False),
            "secret": ServedProbe(loaded_probe("secret", seed=9), 0.0, monitor=True),
        }
        return load_tiny(metrics, served=probes)

    return tiny_app(load, api_key=KEY, operator_key=OPERATOR)


def test_monitors_are_for_the_operators_key_alone(browser: Browser) -> None:
    with running(with_keys()) as url, opened(browser, f"{url}/inspector") as found:
        page = found.page
        page.get_by_label("API key", exact=True).fill(KEY)
        page.get_by_role("button", name="use", exact=True).click()
        wait_ranked(page)
        page.get_by_role("tab", name="Probes").click()
        assert "secret" not in page.locator("body").inner_text()
        page.get_by_role("tab", name="Operator").click()
        page.get_by_text("This panel takes the operator's key").wait_for()
        assert "secret" not in page.locator("body").inner_text()
        page.get_by_label("operator's key").fill(OPERATOR)
        page.get_by_role("button", name="show").click()
        page.get_by_role("cell", name="score.secret").wait_for()
        assert page.get_by_text("S secret").count() >= 1
        assert KEY not in page.content()
        assert OPERATOR not in page.content()
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        assert found.strangers(url) == []
        found.errors.clear()  # the browser writes every 401 on the console


def test_the_reference_of_the_routes_asks_nobody(browser: Browser, url: str) -> None:
    with opened(browser, f"{url}/docs") as found:
        assert found.page.locator("summary code", has_text="/v1/rewards").count() == 1
        assert found.requests == [f"{url}/docs"]
