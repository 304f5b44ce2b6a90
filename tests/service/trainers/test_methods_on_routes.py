"""The four methods on the trainers' routes: what is not in the reward is carried where there is
room, and told of everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from candor.http.trainer_routes import ROUTES
from candor.jobs.check.recorded import recorded
from candor.methods import Use
from candor.scoring.served import ServedProbe
from tests.service.serving import load_tiny, loaded_probe, running, tiny_app
from tests.service.trainers.golden import native

GOLDEN = {golden.name: golden for golden in recorded()}
QUERY = GOLDEN["openrlhf-0.9.1"].body["query"][0]
ITEMS = GOLDEN["openrlhf-0.9.1"].items
PARTS = {"advantage": "advantage_penalty", "screen": "screened"}


@contextmanager
def serving(use: Use) -> Iterator[str]:
    probes = {"sycophancy": ServedProbe(loaded_probe("sycophancy", seed=1), 0.5, use=use)}
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=probes))) as url:
        yield url


def answered(url: str, path: str, body: Any) -> httpx2.Response:
    response = httpx2.post(url + path, json=body, timeout=60)
    assert response.status_code == 200, response.text
    return response


def warned_of(url: str) -> set[str]:
    """The routes whose answer says that the penalty is not in the reward."""
    return {
        path
        for path, contracts in ROUTES.items()
        if "penalty_apart"
        in answered(url, path, contracts[0].example).headers.get("x-candor-warnings", "")
    }


@pytest.mark.parametrize(
    "use", [Use(), Use("project"), Use("screen", -100.0), Use("advantage")], ids=lambda u: u.method
)
def test_every_route_has_the_reward_and_what_is_beside_it(use: Use) -> None:
    with serving(use) as url:
        (one,) = native(url, ITEMS)
        logs = answered(url, "/get_reward", {"query": [QUERY]}).json()
        empty = answered(url, "/get_reward", {"query": []}).json()
        body = {"prompt": ITEMS[0]["messages"], "response": ITEMS[0]["responses"][0]}
        keyed = answered(url, "/slime/keyed", body).json()
        bare = answered(url, "/slime", body).json()
        warned = warned_of(url)
    for reward in (logs["rewards"][0], keyed["reward"], bare):
        assert reward == pytest.approx(one["reward"], abs=1e-5)
    names = {"reward", "base_reward", "penalty", "score_sycophancy"}
    if part := PARTS.get(use.method):
        names.add(part)
        assert one[part]
        assert logs["extra_logs"][part] == pytest.approx([float(one[part])], abs=1e-5)
        assert keyed[part] == pytest.approx(float(one[part]), abs=1e-5)
        assert type(keyed[part]) is float
    assert keyed.keys() == logs["extra_logs"].keys() == empty["extra_logs"].keys() == names
    # A trainer that reads one number trains without a penalty, and is told so.
    assert warned == (set(ROUTES) if use.method == "advantage" else set())
