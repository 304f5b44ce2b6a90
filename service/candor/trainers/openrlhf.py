"""OpenRLHF's `POST /get_reward`.

Read from two files. openrlhf/utils/agent.py (since v0.9.1) sends one item per request, to the first
of several URLs and empty lists to the others; since v0.11.2 the URLs take turns.
openrlhf/utils/remote_rm_utils.py (v0.4.0 to v0.9.0) sends up to a whole rollout.

`query` holds the policy's text with special tokens, and up to v0.8.2 with pads. `prompts` exists
since v0.5.8. The values in the answer must be lists of floats: an int makes an int tensor, and a
null raises. v0.8.10 and v0.8.11 fail on `extra_logs`; for them there is `--openrlhf-no-extra-logs`.
"""

from __future__ import annotations

from typing import Any

from candor.trainers.contract import (
    Contract,
    ContractAnswer,
    Flat,
    MaybeTexts,
    ScoreCall,
    Texts,
)
from candor.trainers.fields import Body, Label


class OpenRLHFBody(Body):
    query: Texts
    prompts: MaybeTexts = None
    labels: Label = None


def read(body: OpenRLHFBody) -> ScoreCall:
    prompts: list[str | None] = [*(body.prompts or [])] or [None] * len(body.query)
    if len(prompts) != len(body.query):
        raise ValueError(f"'prompts' has {len(prompts)} texts and 'query' {len(body.query)}")
    return ScoreCall([Flat(*both) for both in zip(body.query, prompts, strict=True)])


def write(_: Body, answer: ContractAnswer) -> dict[str, Any]:
    settings = answer.settings
    body: dict[str, Any] = {
        "rewards": [response[settings.openrlhf_rewards] for response in answer.responses],
        "scores": [response[settings.openrlhf_scores] for response in answer.responses],
    }
    if settings.openrlhf_extra_logs:
        body["extra_logs"] = extra_logs(answer)
    return body


def extra_logs(answer: ContractAnswer) -> dict[str, list[float]]:
    """R, penalty and probe scores of each response, and with `--method advantage` or `screen` what
    `ContractAnswer.parts` adds. The keys are the same in every answer, even
    without responses, because the trainer merges answers by key."""
    logs = {
        name: [float(response[name]) for response in answer.responses]
        for name in ("reward", *answer.parts)
    }
    for name in answer.probes:
        logs[f"score_{name}"] = [response["probes"][name]["score"] for response in answer.responses]
    return logs


QUERY = (
    "<|im_start|>user\nIs my plan good?<|im_end|>\n<|im_start|>assistant\nIn part: it is late."
    "<|im_end|>"
)

CONTRACT = Contract(
    client="OpenRLHF",
    body=OpenRLHFBody,
    needs=frozenset({"query"}),
    read=read,
    write=write,
    example={
        "query": [QUERY],
        "prompts": [QUERY[: QUERY.index("In part")]],
        "labels": [None],
    },
    answer={
        "rewards": [1.5],
        "scores": [1.5],
        "extra_logs": {
            "reward": [1.5],
            "base_reward": [1.25],
            "penalty": [-0.25],
            "score_sycophancy": [-0.5],
        },
    },
)
