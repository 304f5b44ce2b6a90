"""`Trickle`: takes each step's scored responses, has a few of them judged, and gives the labels to
the reward server.

A label that is lost costs evidence and no step: where the judge or the server does not answer,
stderr says so and training goes on. All labels are also appended to OUT/labels.jsonl, the input of
`candor probe refresh`.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from candor.client.retry import NO_ANSWER, error_of, http_url
from candor.flags import UsageError
from candor.jobs.rl.labels.choose import choose
from candor.jobs.rl.labels.judges import Judge, JudgeFailed

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """A prompt of a step and its scored responses, with R and S of the judged trait's probe."""

    messages: list[Any]
    responses: list[str]
    rewards: list[float]
    scores: list[float]


class Trickle:
    """Args:
    url: address of the reward server.
    key: its operator key, or None.
    rate: share of the responses that is judged.
    probe: the probe that the labels are about.
    seed: of the random prompts.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        judge: Judge,
        rate: float,
        probe: str,
        out: Path,
        seed: int,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=http_url(url), headers=headers, timeout=TIMEOUT_S)
        self._judge, self._rate, self._probe = judge, rate, probe
        self._path, self._seed = out / "labels.jsonl", seed

    def check_access(self) -> None:
        """Raises UsageError where the server takes no labels with this key."""
        try:
            answer = self._http.get("/v1/labels")
        except NO_ANSWER as error:
            raise UsageError(f"--label-rate: /v1/labels: {type(error).__name__}") from None
        if not answer.is_success:
            raise UsageError(f"--label-rate: /v1/labels: {error_of(answer)}")
        if self._probe not in answer.json()["probes"]:
            raise UsageError(f"--label-rate: the server has no probe {self._probe!r}")

    def offer(self, step: int, prompts: Sequence[ScoredPrompt]) -> int:
        """Has some of a step's responses judged; returns how many labels the server took."""
        chosen = choose(
            [prompt.rewards for prompt in prompts],
            [prompt.scores for prompt in prompts],
            self._rate,
            random.Random(f"labels {self._seed} {step}"),
        )
        whole = [
            (place, number)
            for place in chosen.prompts
            for number in range(len(prompts[place].responses))
        ]
        places = [*whole, *chosen.responses]
        if not places:
            return 0
        pairs = [(prompts[place].messages, prompts[place].responses[n]) for place, n in places]
        try:
            labels = dict(zip(places, self._judge(pairs), strict=True))
        except JudgeFailed as error:
            return _lost(step, str(error))
        items = _items(prompts, labels, set(chosen.prompts))
        self._append(items)
        try:
            answer = self._http.post("/v1/labels", json={"items": items, "probes": [self._probe]})
        except NO_ANSWER as error:
            return _lost(step, f"/v1/labels: {type(error).__name__}")
        if not answer.is_success:
            return _lost(step, f"/v1/labels: {error_of(answer)}")
        return len(labels)

    def close(self) -> None:
        self._http.close()

    def _append(self, items: Sequence[dict[str, Any]]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            for item in items:
                context = json.dumps(item["messages"], sort_keys=True).encode()
                for response, label in zip(item["responses"], item["labels"], strict=True):
                    row = {
                        "group": hashlib.sha256(context).hexdigest()[:16],
                        "messages": item["messages"],
                        "response": response,
                        "label": label,
                        "judged": {"drawn": item["drawn"]},
                    }
                    file.write(json.dumps(row) + "\n")


def _items(
    prompts: Sequence[ScoredPrompt], labels: dict[tuple[int, int], int], drawn: set[int]
) -> list[dict[str, Any]]:
    """One item per prompt, in the form of `POST /v1/labels`."""
    found: dict[int, dict[str, Any]] = {}
    for (place, number), label in labels.items():
        prompt = prompts[place]
        how = "random" if place in drawn else "chosen"
        empty = {"messages": prompt.messages, "responses": [], "labels": [], "drawn": how}
        item = found.setdefault(place, empty)
        item["responses"].append(prompt.responses[number])
        item["labels"].append(label)
    return list(found.values())


def _lost(step: int, reason: str) -> int:
    print(f"candor: step {step}: no labels: {reason}", file=sys.stderr)
    return 0
