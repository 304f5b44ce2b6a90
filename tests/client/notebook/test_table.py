"""A reply as notebooks use it: rewards alone, rows, a DataFrame, HTML; and no event loop needed."""

from __future__ import annotations

import asyncio
import sys
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

from candor.client import InvalidArguments, RewardClient
from candor.client.notebook.html import MAX_ITEMS
from candor.client.schema import RewardResponse
from candor.client.wire import AN_ITEM
from tests.client.replies import as_response, numbers, reward_reply

ASK = {"messages": [{"role": "user", "content": "Is my poem good?"}]}
TEXTS = ["Yes!", "No.", "It <b>depends</b> & so on.", "Maybe."]
ITEM: dict[str, Any] = {**ASK, "responses": TEXTS}


def reply(*items: dict[str, Any]) -> RewardResponse:
    transport = httpx2.MockTransport(
        lambda request: as_response(200, reward_reply(request.content))
    )
    with RewardClient("http://rm", transport=transport) as client:
        return client.rewards(items)


class Cells(HTMLParser):
    """The texts of a table's cells, row by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1][-1] += data


def test_the_rewards_alone_are_a_list_per_item() -> None:
    found = reply(ITEM, {**ASK, "responses": TEXTS[:1]})
    wanted = [numbers(text, 0.5)["reward"] for text in TEXTS]
    assert found.rewards == [wanted, wanted[:1]]


def test_a_row_has_the_text_the_ranks_and_every_number() -> None:
    rows = reply(ITEM).rows()
    scored = [numbers(text, 0.5) for text in TEXTS]
    for place, (row, text, one) in enumerate(zip(rows, TEXTS, scored, strict=True)):
        reading = one["probes"]["sycophancy"]
        assert row == {
            "item": 0,
            "response": place,
            "text": text,
            "rank": 1 + sum(other["reward"] > one["reward"] for other in scored),
            "base_rank": 1 + sum(other["base_reward"] > one["base_reward"] for other in scored),
            "reward": one["reward"],
            "base_reward": one["base_reward"],
            "penalty": one["penalty"],
            "score/sycophancy": reading["score"],
            "bounded/sycophancy": reading["bounded"],
            "lambda/sycophancy": 0.5,
            "num_tokens": one["num_tokens"],
            "truncated": False,
        }
    assert [row["rank"] for row in rows] != [row["base_rank"] for row in rows]  # or it says nothing


def test_equal_rewards_keep_their_order_and_the_best_is_first() -> None:
    found = reply({**ASK, "responses": ["Yes!", "Yes!"]})
    assert [row["rank"] for row in found.rows()] == [1, 2]
    assert found.results[0].best == 0


def test_a_reply_that_was_stored_has_no_texts() -> None:
    found = RewardResponse.model_validate_json(reply(ITEM).model_dump_json(by_alias=True))
    assert "text" not in found.rows()[0]
    assert "response 1" in found._repr_html_()


def test_a_data_frame_has_the_rows() -> None:
    pytest.importorskip("pandas")
    found = reply(ITEM, ITEM)
    frame = found.to_pandas()
    assert frame.to_dict("records") == found.rows()
    best = frame.sort_values("reward").groupby("item").tail(1)["response"].tolist()
    assert best == [result.best for result in found.results]


def test_without_pandas_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas: pip install pandas"):
        reply(ITEM).to_pandas()


def test_the_html_is_a_table_with_the_best_first_and_texts_stay_texts() -> None:
    found = reply(ITEM)
    html = found._repr_html_()
    cells = Cells(html)
    assert "b" not in cells.tags
    heading, *body = cells.rows
    assert heading[:4] == ["rank", "rank by R", "response", "reward"]
    by_rank = sorted(found.rows(), key=lambda row: row["rank"])
    assert [row[2] for row in body] == [row["text"] for row in by_rank]
    assert [row[3] for row in body] == [f"{row['reward']:.4g}" for row in by_rank]
    for shown, row in zip(body, by_rank, strict=True):
        moved = row["base_rank"] - row["rank"]
        arrow = f" {'▲' if moved > 0 else '▼'}{abs(moved)}" if moved else ""
        assert shown[:2] == [f"{row['rank']}{arrow}", str(row["base_rank"])]
    assert "http" not in html
    assert "<script" not in html


def test_of_many_items_some_are_shown_and_the_rest_is_counted() -> None:
    html = reply(*[ITEM] * (MAX_ITEMS + 3))._repr_html_()
    assert f"item {MAX_ITEMS - 1}<" in html
    assert f"item {MAX_ITEMS}<" not in html
    assert "and 3 more items" in html
    assert "item 0" not in reply(ITEM)._repr_html_()


def test_the_plain_client_works_where_an_event_loop_runs() -> None:
    """As in a notebook's cell."""

    async def cell() -> list[list[float]]:
        return reply(ITEM).rewards

    assert asyncio.run(cell()) == reply(ITEM).rewards


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"items": ITEM}, "items: must be a list of items; for one item write rewards([item])"),
        (
            {"items": [{**ITEM, "responses": "Yes!"}]},
            'items[0].responses: Input should be a valid list; write "responses": [text]',
        ),
        (
            {"items": [{**ITEM, "messages": "Is it?"}]},
            'write "messages": [{"role": "user", "content": text}] for one question',
        ),
        ({"items": [ASK]}, f"items[0].responses: Field required; an item is {AN_ITEM}"),
        (
            {"items": [ITEM, {**ITEM, "respones": TEXTS}]},
            "items[1].respones: is unknown; the fields are messages, tools, prompt, templated, "
            "responses. Did you mean 'responses'?",
        ),
        (
            {"items": [{"responses": TEXTS}]},
            "items[0]: give exactly one of 'messages' and 'prompt'",
        ),
        (
            {"items": [ITEM], "penalties": {"sycophancy": 0.5}},
            'write {"sycophancy": {"kappa": 0.5}}, or "lambda" for reward units per logit',
        ),
        (
            {"items": [ITEM], "penalties": {"sycophancy": {"lamda": 1}}},
            "penalties.sycophancy.lamda: is unknown; the fields are lambda, kappa, closed_form. "
            "Did you mean 'lambda'?",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_its_field_and_the_fix(
    arguments: dict[str, Any], message: str
) -> None:
    def asked(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError("nothing is sent")

    with (
        RewardClient("http://rm", transport=httpx2.MockTransport(asked)) as client,
        pytest.raises(InvalidArguments) as failed,
    ):
        client.rewards(**arguments)
    assert message in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "Is my poem good?" not in str(failed.value)


def test_every_public_method_of_both_clients_is_documented() -> None:
    for name in ("rewards", "models", "probes", "wait_ready", "close"):
        said = getattr(RewardClient, name).__doc__
        assert said
        assert not said.startswith("See ")
