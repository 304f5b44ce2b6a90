"""The panel *Workers busy* on a real server with two workers: what Prometheus would compute from
two scrapes, by arithmetic."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from candor.item import Item
from tests.service.serving import load_tiny, running, score, tiny_app, wait_for
from tests.stack.promql import panels

HELD_S = 2.0
Samples = dict[tuple[str, str], float]
FORWARD = ("candor_stage_duration_seconds_sum", "forward")


def metrics_of_the_panel() -> tuple[tuple[str, str], tuple[str, str]]:
    """The counter and the gauge of `rate(counter) / gauge`."""
    (panel,) = [panel for panel in panels() if panel["title"] == "Workers busy"]
    (target,) = panel["targets"]
    form = r"rate\((\w+)\{[^}]*\}\[\$__rate_interval\]\) / (\w+)\{[^}]*\}"
    matched = re.fullmatch(form, target["expr"])
    assert matched is not None
    return (matched[1], ""), (matched[2], "")


class Window:
    """Two scrapes around a block, and the least and most time between what they read."""

    def __init__(self, url: str) -> None:
        self.url = url

    def scrape(self) -> Samples:
        """Values by sample name and stage."""
        text = httpx2.get(f"{self.url}/metrics", timeout=60).text
        return {
            (sample.name, sample.labels.get("stage", "")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __enter__(self) -> Window:
        self.outer = time.monotonic()
        self.before = self.scrape()
        self.inner = time.monotonic()
        return self

    def __exit__(self, *raised: object) -> None:
        self.least_s = time.monotonic() - self.inner
        self.after = self.scrape()
        self.most_s = time.monotonic() - self.outer

    def grown(self, sample: tuple[str, str]) -> float:
        return self.after[sample] - self.before[sample]


def test_two_busy_workers_are_the_whole_share_and_never_more() -> None:
    free, entered = threading.Event(), threading.Semaphore(0)
    free.set()

    def hold(items: Sequence[Item]) -> None:
        entered.release()
        assert free.wait(60)

    counter, gauge = metrics_of_the_panel()
    items: list[dict[str, Any]] = [
        {"prompt": word * 150, "templated": True, "responses": [" poem"]}
        for word in (" sea", " good")
    ]
    app = tiny_app(lambda metrics: load_tiny(metrics, before=hold, workers=2, drift_window=0))
    with running(app) as url:
        with Window(url) as idle:
            time.sleep(0.1)
        assert idle.after[gauge] == 2
        assert idle.grown(counter) == 0

        while entered.acquire(blocking=False):  # the checks of the start
            pass
        free.clear()
        caller = threading.Thread(
            target=score, args=(url, {"items": items}), kwargs={"timeout": 120}
        )
        caller.start()
        try:
            assert entered.acquire(timeout=60) and entered.acquire(timeout=60)  # noqa: PT018
            with Window(url) as held:
                time.sleep(HELD_S)
            with Window(url) as ended:
                free.set()
                caller.join(60)
                wait_for(lambda: not caller.is_alive())
        finally:
            free.set()
            caller.join(60)
    # Both batches run on: no forward pass has ended, and yet the share is 1.
    assert held.grown(FORWARD) == 0
    assert held.grown(counter) / held.least_s / held.after[gauge] >= 1 - 1e-6
    assert held.grown(counter) / held.most_s / held.after[gauge] <= 1 + 1e-6
    # They end: all their seconds, longer than the window, come at once. Seconds in forward passes
    # over seconds of the clock, which the panel drew once, is far above 100 %.
    assert ended.grown(FORWARD) >= 2 * HELD_S > ended.most_s
    assert 0 < ended.grown(counter) / ended.most_s / ended.after[gauge] <= 1 + 1e-6
