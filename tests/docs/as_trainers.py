"""Asks `reward-host` as the trainers' pages say, with each trainer's own client.

    python -m tests.docs.as_trainers api.key     # with the key, as the pages give it
    python -m tests.docs.as_trainers             # without a key

A trainer that takes a URL gets the page's own URL and sends its newest recorded bodies. An adapter
gets the page's address, and the key in CANDOR_API_KEY. One JSON object on stdout: by page and body
the rewards in their order, or the error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from candor.client import RewardClient, rows
from candor.client.rows import RewardServer
from candor.jobs.check.adapters import ADAPTERS, ITEM
from candor.jobs.check.recorded import Recorded, recorded_of
from tests.docs.trainer_pages import FOLDER, PAGES, TRAINERS, urls
from tests.service.trainers.clients import CLIENTS

Rewards = list[float]
URL_IN_TEXT = "http://any:KEY@reward-host:8000"


def newest(trainer: str) -> list[Recorded]:
    """The bodies of the trainer's newest version that hold conversations."""
    bodies = recorded_of(trainer)
    return [one for one in bodies if one.release == bodies[0].release and one.items]


def calls(page: Path, key: str | None) -> dict[str, Callable[[], Rewards]]:
    """By body: how the page's trainer asks for its rewards."""
    found: dict[str, Callable[[], Rewards]] = {}
    given = urls(page)
    if page.stem == "http":
        found["RewardClient"] = lambda: by_client(given[-1])
    for trainer in TRAINERS[page.stem]:
        if trainer in ADAPTERS:
            (address,) = {one for one in given if not urlsplit(one).path}
            found[trainer] = partial(by_adapter, trainer, address)
            continue
        for body in newest(trainer):
            if page.stem == "servers":
                url = next(one for one in given if one == URL_IN_TEXT) + body.path
            else:
                url = next(one for one in given if urlsplit(one).path == body.path)
            url = url.replace("any:KEY@", f"any:{key}@" if key else "")
            found[body.name] = partial(CLIENTS[body.client], url, body.body, 0)
    return found


def by_adapter(trainer: str, address: str) -> Rewards:
    async def ask() -> Rewards:
        try:
            return (await ADAPTERS[trainer][1](RewardServer(address, patience_s=0.0)))[0]
        finally:
            await rows.close()

    return asyncio.run(ask())


def by_client(url: str) -> Rewards:
    with RewardClient(url.removesuffix("/v1/rewards")) as client:
        return client.rewards([ITEM]).rewards[0]


def main() -> None:
    key = Path(sys.argv[1]).read_text().strip() if len(sys.argv) > 1 else None
    os.environ.pop("CANDOR_API_KEY", None)
    if key is not None:
        os.environ["CANDOR_API_KEY"] = key
    told: dict[str, dict[str, Any]] = {}
    for page in PAGES:
        told[page.stem] = {}
        for name, call in calls(page, key).items():
            try:
                told[page.stem][name] = call()
            except Exception as error:
                told[page.stem][name] = f"{type(error).__name__}: {error}"
    print(json.dumps(told))


if __name__ == "__main__":
    assert FOLDER.is_dir()
    main()
