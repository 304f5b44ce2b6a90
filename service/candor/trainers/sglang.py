"""SGLang's native `/classify`.

Read from python/sglang/srt/entrypoints/http_server.py of SGLang 0.5.23. verl's old engine client
calls it in sglang_rollout/http_server_engine.py `reward_score`. The body has `text` or `input_ids`,
and the reward is in `embedding[0]`. A single input gives an object, a list gives a list. There is
never an activation.
"""

from __future__ import annotations

from typing import Annotated, Any

from candor.trainers.contract import (
    INPUTS,
    Body,
    Contract,
    ContractAnswer,
    Flat,
    ScoreCall,
    text_inputs,
)
from candor.trainers.openrlhf import QUERY


class SGLangBody(Body):
    text: Annotated[Any, INPUTS] = None
    input_ids: Annotated[Any, INPUTS] = None
    return_pooled_hidden_states: bool = False

    @property
    def inputs(self) -> Any:
        """The input by the name that the body uses."""
        return self.input_ids if self.text is None else self.text


def read(body: SGLangBody) -> ScoreCall:
    if body.return_pooled_hidden_states:
        raise ValueError("'return_pooled_hidden_states': this server returns no hidden states")
    try:
        return ScoreCall([Flat(text) for text in text_inputs(body.inputs)])
    except ValueError as error:
        name = "input_ids" if body.text is None else "text"
        raise ValueError(f"'{name}': {error}") from None


def write(body: SGLangBody, answer: ContractAnswer) -> Any:
    data = [
        {
            "embedding": [response["reward"]],
            "meta_info": {
                "id": f"{answer.request_id}-{index}",
                "prompt_tokens": response["num_tokens"],
                "completion_tokens": 0,
            },
        }
        for index, response in enumerate(answer.responses)
    ]
    inputs = body.inputs
    single = isinstance(inputs, str) or isinstance(inputs[0], int)
    return data[0] if single else data


CONTRACT = Contract(
    client="SGLang",
    body=SGLangBody,
    needs=frozenset({"text"}),
    or_needs=frozenset({"input_ids"}),
    read=read,
    write=write,
    example={"text": [QUERY]},
    answer=[
        {
            "embedding": [1.5],
            "meta_info": {
                "id": "9f8e7d6c5b4a3928-0",
                "prompt_tokens": 25,
                "completion_tokens": 0,
            },
        }
    ],
)
