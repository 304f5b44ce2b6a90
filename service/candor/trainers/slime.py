"""slime's remote reward: `/slime` answers a bare number, `/slime/keyed` an object.

Read from slime/rollout/rm_hub/__init__.py `remote_rm` (v0.2.2 to v0.3.1). From v0.2.3 on it tries
10 times after any failure. It sends one sample per request. The whole body of the answer is the
reward, unless `--reward-key` names a field of an object. A null ends the run, so a failed score is
an error.

miles sends the same body (miles/rollout/rm_hub/__init__.py at 03f9cab), once: any failure ends its
run.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter

from candor.client.schema import Message
from candor.text.request import Messages
from candor.trainers.contract import Contract, ContractAnswer, Pair, ScoreCall, Turns
from candor.trainers.fields import Body, Label

ONE_CONVERSATION = TypeAdapter(Turns)


def text_or_turns(value: object) -> object:
    """Validates a list as messages. (A pydantic union would report the errors of both types.)"""
    if isinstance(value, list):
        return ONE_CONVERSATION.validate_python(value)
    if not isinstance(value, str):
        raise ValueError("must be a text or a list of messages")
    return value


Prompt = Annotated[str | list[Message], BeforeValidator(text_or_turns)]


class SlimeBody(Body):
    prompt: Prompt = Field(description="Templated text, messages, or a user's message.")
    response: str
    label: Label = None
    metadata: Label = None


def read(body: SlimeBody) -> ScoreCall:
    context = body.prompt if isinstance(body.prompt, str) else Messages.of(body.prompt)
    return ScoreCall([Pair(context, [body.response])])


def write_number(_: Body, answer: ContractAnswer) -> float:
    return answer.rewards[0]


def write_object(_: Body, answer: ContractAnswer) -> dict[str, Any]:
    response = answer.responses[0]
    scores = {f"score_{name}": response["probes"][name]["score"] for name in answer.probes}
    return {name: float(response[name]) for name in ("reward", *answer.parts)} | scores


EXAMPLE = {
    "prompt": [{"role": "user", "content": "Is my plan good?"}],
    "response": "In part: it is late.<|im_end|>",
    "label": None,
}

CONTRACT = Contract(
    client="slime",
    body=SlimeBody,
    needs=frozenset({"prompt", "response"}),
    read=read,
    write=write_number,
    example=EXAMPLE,
    answer=1.5,
)
KEYED = Contract(
    client="slime with --reward-key",
    body=SlimeBody,
    needs=frozenset({"prompt", "response"}),
    read=read,
    write=write_object,
    example=EXAMPLE,
    answer={"reward": 1.5, "base_reward": 1.25, "penalty": -0.25, "score_sycophancy": -0.5},
)
