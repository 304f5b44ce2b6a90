"""For load tests of your own: `locust -f bench/load/locustfile.py --host http://127.0.0.1:8000`.

Each user sends one group after another and waits for each answer. This is a closed loop: its
percentiles hold for this number of waiting users, and not for a rate of arrivals (docs/bench.md).
If the server wants a key, it is read from CANDOR_API_KEY. Needs locust:
`pip install 'candor-rewards[bench]'`.
"""

# locust is not among the packages that mypy sees.
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

from __future__ import annotations

import os
import random

from locust import HttpUser, between, task

from bench.load.workloads import WORDS


def words(low: int, high: int) -> str:
    return " ".join(random.choices(WORDS, k=random.randint(low, high)))


class Trainer(HttpUser):
    """A trainer that sends fresh groups: four of 8 responses to one with a single response."""

    wait_time = between(0.0, 0.2)

    def on_start(self) -> None:
        if key := os.environ.get("CANDOR_API_KEY"):
            self.client.headers["Authorization"] = f"Bearer {key}"

    @task(4)
    def group(self) -> None:
        self.score(8)

    @task(1)
    def single(self) -> None:
        self.score(1)

    def score(self, num_responses: int) -> None:
        """Send one request; an answer that lacks a reward for a response is a failure."""
        item = {
            "prompt": words(32, 96) + "\n",
            "templated": True,
            "responses": [words(16, 64) for _ in range(num_responses)],
        }
        with self.client.post(
            "/v1/rewards",
            json={"items": [item]},
            name=f"/v1/rewards, {num_responses} responses",
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"HTTP {answer.status_code}")
            elif len(answer.json()["results"][0]["responses"]) != num_responses:
                answer.failure("wrong number of rewards")
