"""vLLM's routes for single texts: `/classify`, `/pooling`, and OpenAI's `/v1/embeddings`.

Read from vllm/entrypoints/pooling of vLLM 0.32.0. verl calls `/classify` (or `/v1/embeddings`, if
it started SGLang) in verl/experimental/reward_loop/reward_loop.py. Since v0.8 verl sends
`use_activation: false`. Before, it sent `activation: false`, which today's vLLM ignores, so that
vLLM answers the sigmoid.

Candor applies the sigmoid only if the body asks for it, by any of its names. vLLM applies it by
default. A sigmoid that nobody asked for does more harm than a missing one.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import torch
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
    pair_from_messages,
)
from candor.trainers.fields import (
    Body,
    Dimensions,
    Harmless,
    Lora,
    Media,
    Model,
    Priority,
    Refused,
    User,
    Vectors,
)
from candor.trainers.openrlhf import QUERY

FLOATS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
"""vLLM's names of the formats in which base64 encodes a number."""


AS_TRAINED = "the template is applied as the model was trained with it; leave the field out"


class VllmBody(Body):
    """The fields that all of vLLM's pooling routes share."""

    model: Model = None
    user: User = None
    priority: Priority = None
    request_id: Annotated[str | None, Field(max_length=256)] = Field(
        None, description="The answer's id ends in it."
    )
    truncate_prompt_tokens: int | None = Field(
        None, description="-1 drops the oldest tokens of the context from a text over the window."
    )
    truncation_side: Literal["left", "right"] | None = Field(
        None, description="Of a text that is cut: left or absent."
    )
    padding: Annotated[Any, Refused("no text is padded to a length", ("do_not_pad",))] = None
    mm_processor_kwargs: Media = None
    cache_salt: Annotated[
        Any,
        Refused("all callers share one cache; leave the field out, or run a server of your own"),
    ] = None
    lora_path: Lora = None

    def truncation(self) -> Literal["error", "left"] | None:
        """The truncation that the body asks for, or None.

        Raises:
            ValueError: the body asks to cut the response, or to cut to another length than the
                model's window.
        """
        if self.truncate_prompt_tokens is None:
            # The caller expects that no context is dropped to keep the end of a text.
            return "error" if self.truncation_side == "right" else None
        if self.truncate_prompt_tokens != -1:
            raise ValueError("'truncate_prompt_tokens' must be -1 (the model's window) or absent")
        if self.truncation_side == "right":
            raise ValueError(
                "'truncation_side': right would cut the response; send left or leave it out"
            )
        return "left"


def is_conversation(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


Turns = Annotated[list[Message], FailFast(), Field(min_length=1)]
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


class TemplateBody(Body):
    """The fields that say how messages become a text."""

    add_special_tokens: bool | None = Field(
        None,
        description="A text gets the template's one BOS. A body that asks for none, or for a "
        "second one, is refused.",
    )
    chat_template: str | None = Field(None, description="Must be the served model's template.")
    add_generation_prompt: Annotated[
        Any, Refused("the text to score ends with the response, not with an open turn", (False,))
    ] = None
    continue_final_message: Annotated[
        Any, Refused("the response's turn is ended as the served model's ending says", (False,))
    ] = None
    chat_template_kwargs: Annotated[Any, Refused(AS_TRAINED, ({},))] = None
    media_io_kwargs: Media = None


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


class Activated(Body):
    use_activation: bool | None = Field(None, description="true asks for the sigmoid.")
    activation: bool | None = Field(None, description="Old name of `use_activation`.")
    softmax: bool | None = Field(None, description="Oldest name of `use_activation`.")

    @model_validator(mode="after")
    def one_meaning(self) -> Self:
        named = {
            name: getattr(self, name)
            for name in ("use_activation", "activation", "softmax")
            if getattr(self, name) is not None
        }
        if len(set(named.values())) > 1:
            raise ValueError(
                " and ".join(f"'{name}'" for name in named)
                + " are names of one field and contradict each other; send one of them"
            )
        return self

    @property
    def wants_activation(self) -> bool | None:
        """The value, under whichever name the body has it."""
        named = (self.use_activation, self.activation, self.softmax)
        return next((value for value in named if value is not None), None)


class Encoded(Body):
    """How the numbers of an answer are written."""

    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] = Field(
        "float",
        description="bytes: the answer's body is the numbers and nothing else, and the header "
        "metadata says what they are. bytes_only: the same without that header.",
    )
    embed_dtype: Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"] = Field(
        "float32", description="The number that base64 or the bytes hold."
    )
    endianness: Literal["native", "little", "big"] = Field(
        "native", description="The order of its bytes; native is the server's."
    )
    dimensions: Dimensions = None

    def vector(self, value: float) -> list[float] | str:
        """One number as a vector of length 1.

        Raises:
            ValueError: as `packed`.
        """
        return (
            [value]
            if self.encoding_format == "float"
            else base64.b64encode(self.packed(value)).decode()
        )

    def packed(self, value: float) -> bytes:
        """One number in the format and byte order that the body asks for.

        Raises:
            ValueError: `embed_dtype` cannot hold the number.
        """
        dtype = FLOATS[self.embed_dtype]
        if abs(value) > torch.finfo(dtype).max:
            raise ValueError(
                f"'embed_dtype': {self.embed_dtype} cannot hold a number as large as this reward; "
                "send encoding_format float"
            )
        # By way of float32, as vLLM's own pooled numbers are.
        number = torch.tensor([value], dtype=torch.float32).to(dtype)
        native = number.view(torch.uint8).numpy().tobytes()
        swap = self.endianness not in ("native", sys.byteorder)
        return native[::-1] if swap else native

    def raw(self, head: Mapping[str, Any], values: Sequence[float]) -> AnswerBytes:
        """The numbers one after the other, as vLLM answers them.

        Args:
            head: what JSON would say beside the numbers.

        Raises:
            ValueError: as `packed`.
        """
        packed = [self.packed(value) for value in values]
        size = FLOATS[self.embed_dtype].itemsize
        items = [
            {
                "index": index,
                "embed_dtype": self.embed_dtype,
                "endianness": self.endianness,
                "start": index * size,
                "end": (index + 1) * size,
                "shape": [1],
            }
            for index in range(len(packed))
        ]
        # ASCII, because it is a header.
        headers = {"metadata": json.dumps({**head, "data": items})}
        return AnswerBytes(
            b"".join(packed),
            "application/octet-stream",
            {} if self.encoding_format == "bytes_only" else headers,
        )


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


def openai_list(
    kind: str, data: list[dict[str, Any]], body: VllmBody, answer: ContractAnswer
) -> dict[str, Any]:
    """`data` in OpenAI's list format."""
    usage = {
        "prompt_tokens": answer.num_tokens,
        "total_tokens": answer.num_tokens,
        "completion_tokens": 0,
    }
    return {
        "id": f"{kind}-{body.request_id or answer.request_id}",
        "object": "list",
        "created": answer.created,
        "model": answer.model,
        "data": data,
        "usage": usage,
    }


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


def example_answer(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{kind}-9f8e7d6c5b4a3928",
        "object": "list",
        "created": 1764000000,
        "model": "reward-model",
        "data": [{"index": 0, **data}],
        "usage": {"prompt_tokens": 25, "total_tokens": 25, "completion_tokens": 0},
    }


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
