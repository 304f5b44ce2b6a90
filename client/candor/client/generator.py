"""Samples from a chat server in OpenAI's form (vLLM or `candor generator`): n texts that continue
one conversation.

    async with AsyncGeneratorClient("http://127.0.0.1:8001", model="smollm2") as generator:
        texts = await generator.complete(messages, n=16, temperature=0.8, max_tokens=64, seed=0)

The client refuses a server that does not serve the named model, and a reply from another model or
with another number of texts: such texts would be scored and reported under a wrong name. An API may
answer for an alias under its dated name, "m-2026-01-01" for "m": that is the named model, and
`Completion.model` says which (`is_version_of`).

Not here: streaming, tools, log-probabilities, the `openai` package (one route is used).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from candor.client.errors import InvalidReply, WrongModel
from candor.client.retry import Retry, Waiting, http_url, send_async, shown, timeout
from candor.client.schema import Message
from candor.client.wire import describe_first_error


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled text.

    Attributes:
        text: the message's content; empty where there is none, as where `max_tokens` ended the text
            while the model was thinking.
        finish_reason: `length` where `max_tokens` ended the text.
        model: the name under which the server answered.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    model: str = field(default="", compare=False)


Form = TypeVar("Form", bound=BaseModel)


class _Text(BaseModel):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @property
    def text(self) -> str | None:
        """The content; empty where the model has only thought; None where there is nothing."""
        if self.content is None and (self.reasoning_content or self.reasoning):
            return ""
        return self.content


class _Choice(BaseModel):
    index: int
    message: _Text
    finish_reason: Literal["stop", "length"]  # `abort`, `tool_calls`, ... are no finished texts


class _Chat(BaseModel):
    model: str
    choices: list[_Choice]


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class AsyncGeneratorClient:
    """Client of one server and one model, for many calls at the same time. `async with` checks the
    model first.

    Args:
        base_url: address of the server; a trailing `/v1` is removed.
        model: id of the served model, sent with every request and expected in every reply, there
            perhaps with a date.
        api_key: key to send as `Authorization: Bearer`.
        timeout_s: longest wait for a reply, in seconds. Long, because generation is slow.
        retry: how often and how long failed requests are repeated; see `candor.client.retry`.
        transport: httpx2 transport in place of the network, for tests.

    Raises:
        ValueError: `base_url` does not begin with http:// or https://.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        retry: Retry | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.model = model
        self.answered_by: list[str] = []
        """The names under which the server has answered, in the order they came."""
        self._retry = retry or Retry()
        self._waiting = Waiting()
        self._http = httpx2.AsyncClient(
            base_url=http_url(base_url).removesuffix("/v1"),
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=timeout(timeout_s),
            transport=transport,
        )

    async def check_model(self) -> None:
        """Ask `GET /v1/models` whether the model is served.

        Raises:
            WrongModel: the model is not served; the message lists the served models.
            ClientError: the server gave no list of models.
        """
        request = self._http.build_request("GET", "/v1/models")
        response = await send_async(self._http, request, self._retry, self._waiting)
        served = [model.id for model in _parse(_Models, response).data]
        if not any(is_version_of(name, self.model) for name in served):
            raise WrongModel(
                f"{shown(request.url)} serves {', '.join(served) or 'nothing'}, not {self.model}"
            )

    async def complete(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        n: int,
        temperature: float,
        max_tokens: int,
        seed: int,
        top_p: float = 1.0,
        prefix: str = "",
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        """Sample `n` responses to `messages` (`POST /v1/chat/completions`), in the order of their
        index.

        Args:
            max_tokens: most tokens per response.
            top_p: always sent, because servers take their default from the model's own generation
                config.
            prefix: text that every response begins with. It is put into the prompt as the start of
                the assistant's turn, with three fields that vLLM has
                (vllm/entrypoints/openai/chat_completion/protocol.py) and OpenAI has not.
            stop: texts at which a response ends; the text stays part of the response, by another
                field of vLLM that OpenAI has not.

        Raises:
            ClientError: see client/candor/client/errors.py.
        """
        turns = [Message.model_validate(message).as_sent() for message in messages]
        body: dict[str, Any] = {
            "model": self.model,
            "messages": turns,
            "n": n,
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": max_tokens,
            "seed": seed,
        }
        if prefix:
            turns.append({"role": "assistant", "content": prefix})
            body |= {"add_generation_prompt": False, "continue_final_message": True, "echo": False}
        if stop:
            body |= {"stop": list(stop), "include_stop_str_in_output": True}
        request = self._http.build_request("POST", "/v1/chat/completions", json=body)
        response = await send_async(self._http, request, self._retry, self._waiting)
        chat = _parse(_Chat, response)
        samples = completions(chat, self.model, n)
        if chat.model not in self.answered_by:
            self.answered_by.append(chat.model)
        return with_prefix(prefix, samples)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self.check_model()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()


def completions(chat: _Chat, model: str, n: int) -> list[Completion]:
    """The texts of a parsed reply, checked against the request.

    Raises:
        WrongModel: the reply is from another model than `model`.
        InvalidReply: the reply does not have `n` texts, or one is null.
    """
    if not is_version_of(chat.model, model):
        raise WrongModel(f"asked for {model}, the reply is from {chat.model}")
    choices = sorted(chat.choices, key=lambda choice: choice.index)
    if [choice.index for choice in choices] != list(range(n)):
        raise InvalidReply(
            f"asked for {n} choices, got those of index {[c.index for c in choices]}"
        )
    found = []
    for choice in choices:
        text = choice.message.text
        if text is None:
            raise InvalidReply(f"choice {choice.index} has no content")
        found.append(Completion(text, choice.finish_reason, chat.model))
    return found


_VERSION = re.compile(
    r"[-@:](?:\d{4}-\d{2}-\d{2}|20\d{6}|20\d{4}|(?:0[1-9]|1[0-2])[0-3]\d|0\d{2}|latest)"
)
"""What an API adds to an alias: a date in one of the usual forms, or a number such as 001."""


def is_version_of(name: str, model: str) -> bool:
    """Whether `name` is `model`, or the dated name behind this alias: "m-2026-01-01", "m@20260101"
    or "m-0613" for "m", also for "m-latest"."""
    alias = re.sub(r"[-:]latest$", "", model)
    return name in (model, alias) or (
        name.startswith(alias) and _VERSION.fullmatch(name[len(alias) :]) is not None
    )


def with_prefix(prefix: str, samples: list[Completion]) -> list[Completion]:
    """The samples with `prefix`, which was put into the prompt, before each text.

    Raises:
        InvalidReply: all samples already begin with `prefix`, as vLLM's once did whatever `echo`
            said (its issue 10111). Which part was sampled is then unknown.
    """
    if prefix and all(sample.text.startswith(prefix) for sample in samples):
        raise InvalidReply("the server sent the response prefix back, although echo was false")
    return [replace(sample, text=prefix + sample.text) for sample in samples]


def _parse(form: type[Form], response: httpx2.Response) -> Form:
    try:
        return form.model_validate_json(response.content)
    except ValidationError as error:
        reason = describe_first_error(error)
        raise InvalidReply(f"{shown(response.url)}: not the OpenAI form: {reason}") from None
