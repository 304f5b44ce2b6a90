"""vLLM's `/tokenize`: the tokens that scoring would read, for callers that count before they send.

Read from vllm/entrypoints/serve/tokenize of vLLM 0.32.0. vLLM opens a turn of the assistant behind
messages by default; here messages end with the response, as on `/classify`, and get what scoring
gives them. So a text that scoring would refuse is refused here too, in the same words.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from candor.trainers.contract import (
    Contract,
    ContractAnswer,
    Flat,
    MaybeTools,
    MaybeTurns,
    Pair,
    ScoreCall,
    pair_from_messages,
)
from candor.trainers.fields import Media, Model, Refused
from candor.trainers.vllm.bodies import TemplateBody


class TokenizeBody(TemplateBody):
    prompt: str | None = Field(None, description="A text, templated or not.")
    messages: MaybeTurns = Field(None, description="In place of `prompt`; ends with the response.")
    tools: MaybeTools = Field(None, description="The tools of `messages`, for the template.")
    model: Model = None
    mm_processor_kwargs: Media = None
    return_token_strs: Annotated[Any, Refused("the answer has token ids", (False,))] = None


def read(body: TokenizeBody) -> ScoreCall:
    if (body.prompt is None) == (body.messages is None):
        raise ValueError("send exactly one of 'prompt' and 'messages'")
    if body.messages is not None:
        text: Flat | Pair = pair_from_messages(body.messages, body.tools)
    elif body.tools:
        raise ValueError("'tools' goes with 'messages'; a 'prompt' is templated already")
    else:
        text = Flat(body.prompt or "")
    return ScoreCall([text], None, body.chat_template, body.add_special_tokens)


def write(_: TokenizeBody, answer: ContractAnswer) -> dict[str, Any]:
    return {
        "count": answer.num_tokens,
        "max_model_len": answer.max_length,
        "tokens": answer.responses[0]["token_ids"],
    }


CONTRACT = Contract(
    client="vLLM",
    body=TokenizeBody,
    needs=frozenset({"prompt"}),
    or_needs=frozenset({"messages"}),
    read=read,
    write=write,
    example={"model": "reward-model", "prompt": "Is my plan good?"},
    answer={"count": 5, "max_model_len": 4096, "tokens": [2, 300, 202, 44, 86]},
)
