"""vLLM's routes for single texts: `/classify`, `/pooling`, and OpenAI's `/v1/embeddings`.

Read from vllm/entrypoints/pooling of vLLM 0.32.0. verl calls `/classify` (or `/v1/embeddings`, if
it started SGLang) in verl/experimental/reward_loop/reward_loop.py. Since v0.8 verl sends
`use_activation: false`. Before, it sent `activation: false`, which today's vLLM ignores, so that
vLLM answers the sigmoid.

Candor applies the sigmoid only if the body asks for it, by any of its names. vLLM applies it by
default. A sigmoid that nobody asked for does more harm than a missing one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, FailFast, Field, TypeAdapter, model_validator

from candor.client.schema import MAX_ITEMS, Message
from candor.errors import InvalidRequest
from candor.trainers.contract import (
    ONE_LABEL,
    AnswerBytes,
    Contract,
    ContractAnswer,
    Flat,
    Inputs,
    MaybeTools,
    Pair,
    ScoreCall,
    Turns,
    pair_from_messages,
)
from candor.trainers.fields import Harmless, Refused, Vectors
from candor.trainers.openrlhf import QUERY
from candor.trainers.vllm.bodies import (
    Activated,
    TemplateBody,
    VllmBody,
    example_answer,
    openai_list,
)
from candor.trainers.vllm.encoded import Encoded


def is_conversation(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


ONE_CONVERSATION = TypeAdapter(Turns)


def conversations(value: object) -> object:
    """One conversation as a list of one. It is validated here, so that its faults are named by
    their place in it. Other values are unchanged."""
    return [ONE_CONVERSATION.validate_python(value)] if is_conversation(value) else value


Conversations = Annotated[
    list[Turns] | None,
    FailFast(),
    Field(min_length=1, max_length=MAX_ITEMS),
    BeforeValidator(conversations, json_schema_input_type=list[Message] | list[Turns]),
]


class InputBody(VllmBody, TemplateBody):
    """Texts, or conversations that end with the response."""

    input: Inputs | None = None
    messages: Conversations = Field(
        None,
        description="In place of `input`: one conversation, or a list of them. The last message of "
        "each is scored.",
    )
    tools: MaybeTools = Field(None, description="The tools of `messages`, for the template.")

    @model_validator(mode="before")
    @classmethod
    def messages_by_their_name(cls, body: Any) -> Any:
        """vLLM takes conversations in `input` too."""
        if isinstance(body, dict):
            texts = body.get("input")
            batch = isinstance(texts, list) and bool(texts) and all(map(is_conversation, texts))
            if "messages" not in body and (batch or is_conversation(texts)):
                others = {name: value for name, value in body.items() if name != "input"}
                return others | {"messages": texts}
        return body

    def call(self) -> ScoreCall:
        """Raises ValueError if the texts cannot be read."""
        if self.input is not None and self.messages is not None:
            raise ValueError("send exactly one of 'input' and 'messages'")
        if self.tools and self.messages is None:
            raise ValueError("'tools' goes with 'messages'; an 'input' is templated already")
        texts: list[Flat | Pair] = [Flat(text) for text in self.input or ()]
        for number, turns in enumerate(self.messages or ()):
            try:
                texts.append(pair_from_messages(turns, self.tools))
            except ValueError as error:
                raise InvalidRequest(str(error), item=number) from None
        return ScoreCall(texts, self.truncation(), self.chat_template, self.add_special_tokens)


class ClassifyBody(InputBody, Activated):
    pass


class PoolingBody(InputBody, Activated, Encoded):
    task: Annotated[Any, Refused("this server gives one reward per text", ("classify",))] = None
    data: Annotated[Any, Refused("this server has no input plugins; send input or messages")] = None


class EmbeddingsBody(InputBody, Encoded):
    use_activation: Annotated[
        Any, Refused("it would make the vector of one number 1 or -1", (False,))
    ] = None
    normalize: Annotated[
        Any, Refused("it would make the vector of one number 1 or -1", (False,))
    ] = None
    rid: Annotated[Any, Harmless("SGLang's answer does not repeat it")] = None
    embed_overrides: Vectors = None
    embed_override_token_id: Vectors = None


def read(body: InputBody) -> ScoreCall:
    return body.call()


def write_classify(body: ClassifyBody, answer: ContractAnswer) -> dict[str, Any]:
    data = [
        {"index": index, "label": ONE_LABEL, "probs": [value], "num_classes": 1}
        for index, value in enumerate(answer.values(body.wants_activation))
    ]
    return openai_list("classify", data, body, answer)


def encoded_list(
    kind: str,
    body: PoolingBody | EmbeddingsBody,
    answer: ContractAnswer,
    values: Sequence[float],
    item: Callable[[list[float] | str], dict[str, Any]],
) -> dict[str, Any] | AnswerBytes:
    """The numbers as the body's `encoding_format` says; `item` makes a list's entry of one."""
    if body.encoding_format in ("bytes", "bytes_only"):
        whole = openai_list(kind, [], body, answer)
        usage = {name: whole["usage"][name] for name in ("prompt_tokens", "total_tokens")}
        head = {name: whole[name] for name in ("id", "created", "model")}
        return body.raw(head | {"usage": usage}, values)
    data = [{"index": index, **item(body.vector(value))} for index, value in enumerate(values)]
    return openai_list(kind, data, body, answer)


def write_pooling(body: PoolingBody, answer: ContractAnswer) -> dict[str, Any] | AnswerBytes:
    values = answer.values(body.wants_activation)
    return encoded_list(
        "pool", body, answer, values, lambda vector: {"object": "pooling", "data": vector}
    )


def write_embeddings(body: EmbeddingsBody, answer: ContractAnswer) -> dict[str, Any] | AnswerBytes:
    return encoded_list(
        "embd",
        body,
        answer,
        answer.rewards,
        lambda vector: {"object": "embedding", "embedding": vector},
    )


CLASSIFY = Contract(
    client="vLLM and verl",
    body=ClassifyBody,
    needs=frozenset({"input"}),
    or_needs=frozenset({"messages"}),
    read=read,
    write=write_classify,
    example={"model": "reward-model", "input": QUERY, "use_activation": False},
    answer=example_answer("classify", {"label": ONE_LABEL, "probs": [1.5], "num_classes": 1}),
)
POOLING = Contract(
    client="vLLM",
    body=PoolingBody,
    needs=frozenset({"input"}),
    or_needs=frozenset({"messages"}),
    read=read,
    write=write_pooling,
    example={"model": "reward-model", "input": [QUERY]},
    answer=example_answer("pool", {"object": "pooling", "data": [1.5]}),
)
EMBEDDINGS = Contract(
    client="OpenAI, vLLM and verl",
    body=EmbeddingsBody,
    needs=frozenset({"input"}),
    or_needs=frozenset({"messages"}),
    read=read,
    write=write_embeddings,
    example={"model": "reward-model", "input": QUERY},
    answer=example_answer("embd", {"object": "embedding", "embedding": [1.5]}),
)
