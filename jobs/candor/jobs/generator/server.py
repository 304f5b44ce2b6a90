"""The server of `candor generator`: a transformers causal language model in OpenAI's chat form.

It has the three routes that the generator client uses: `GET /v1/models`, `GET /health` and
`POST /v1/chat/completions` with `n`, `temperature`, `top_p`, `max_tokens`, `seed`, `stop`, and a
last turn to be continued (vLLM's `continue_final_message`). A request never shares a forward pass
with another request, so a seed gives the same samples again. Not here: streaming and batching over
prompts. Use vLLM for them; `make demo GENERATOR=vllm` does.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal, cast

import torch
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, model_validator
from transformers import AutoModelForCausalLM, AutoTokenizer

from candor.client.schema import Message
from candor.forward.precision import cpu_dtype
from candor.jobs.generator.sample import Sample, sample

log = logging.getLogger(__name__)


class ChatRequest(BaseModel):
    """The fields of OpenAI's chat completion request that take effect; others are refused."""

    model_config = {"extra": "forbid"}

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    n: Annotated[int, Field(ge=1, le=256)] = 1
    temperature: Annotated[float, Field(ge=0, le=5)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=2048)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)] = []
    include_stop_str_in_output: bool = False
    stream: Literal[False] = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    echo: Literal[False] = False

    @model_validator(mode="after")
    def check_end(self) -> ChatRequest:
        if self.add_generation_prompt == self.continue_final_message:
            raise ValueError("set exactly one of add_generation_prompt and continue_final_message")
        return self

    @model_validator(mode="after")
    def plain_texts(self) -> ChatRequest:
        if any(message.others or not isinstance(message.text, str) for message in self.messages):
            raise ValueError("'messages' have 'role' and a text as 'content', and nothing else")
        return self


class Generator:
    """A causal language model that answers chat requests.

    Args:
        model_path: folder of the model and its tokenizer.
        name: model id in the answers.
        device: `cpu`, `cuda`, or `auto` (`cuda` where there is a GPU).
    """

    def __init__(self, model_path: Path, name: str, device: str) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name = name
        self.workers = _workers(device)
        """Threads to answer in."""
        self._tokenizer = AutoTokenizer.from_pretrained(model_path)
        self._tokenizing = Lock()  # two threads must not use a fast tokenizer at the same time
        dtype = torch.bfloat16 if device.startswith("cuda") else cpu_dtype(torch.bfloat16)
        self._model = AutoModelForCausalLM.from_pretrained(model_path, dtype=dtype)
        cast(torch.nn.Module, self._model).to(device).eval()
        self._stop_ids = frozenset({int(self._tokenizer.eos_token_id)})

    def answer(self, request: ChatRequest) -> dict[str, Any]:
        """The body of the answer, in OpenAI's form."""
        prompt_ids = self._prompt_ids(request)
        samples = sample(
            self._model,
            prompt_ids,
            n=request.n,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop_ids=self._stop_ids,
            ended=lambda ids: bool(request.stop and _stop_of(self._text(ids), request.stop)),
        )
        num_sampled = sum(len(drawn.token_ids) for drawn in samples)
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "model": self.name,
            "choices": self._choices(samples, request),
            "usage": {
                "prompt_tokens": len(prompt_ids),
                "completion_tokens": num_sampled,
                "total_tokens": len(prompt_ids) + num_sampled,
            },
        }

    def _prompt_ids(self, request: ChatRequest) -> list[int]:
        with self._tokenizing:
            ids = self._tokenizer.apply_chat_template(
                [message.as_sent() for message in request.messages],
                add_generation_prompt=request.add_generation_prompt,
                continue_final_message=request.continue_final_message,
                return_dict=False,
            )
        return cast(list[int], ids)

    def _text(self, ids: Sequence[int]) -> str:
        with self._tokenizing:
            return cast(str, self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _choices(self, samples: Sequence[Sample], request: ChatRequest) -> list[dict[str, Any]]:
        texts = [self._text(drawn.token_ids) for drawn in samples]
        for index, text in enumerate(texts):
            if end := _stop_of(text, request.stop):
                texts[index] = text[: end[request.include_stop_str_in_output]]
        return [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": drawn.finish_reason,
            }
            for index, (text, drawn) in enumerate(zip(texts, samples, strict=True))
        ]


def _stop_of(text: str, stop: Sequence[str]) -> tuple[int, int] | None:
    """Start and end of the first stop string in `text`, or None."""
    found = [(text.find(each), text.find(each) + len(each)) for each in stop if each in text]
    return min(found, default=None)


def create_generator(
    model_path: Path, served_model_name: str, device: str, api_key: str | None = None
) -> FastAPI:
    """The app, with the model of `model_path` loaded on `device`. See `Generator`.

    Args:
        api_key: key that every route but /health asks for, as `Authorization: Bearer KEY`.
    """
    generator = Generator(model_path, served_model_name, device)
    app = FastAPI(title="Candor demo generator")
    if api_key is not None:
        app.middleware("http")(_guard(api_key))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": generator.name, "object": "model"}]}

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> JSONResponse:
        if request.model != generator.name:
            message = f"model '{request.model[:80]}' is not served here; '{generator.name}' is"
            return JSONResponse({"error": {"type": "not_found", "message": message}}, 404)
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(generator.workers, generator.answer, request)
        log.info("%d samples in %.2f s", request.n, time.monotonic() - started)
        return JSONResponse(body)

    return app


def _guard(
    api_key: str,
) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    expected = api_key.encode()

    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        has_key = hmac.compare_digest(presented.encode(), expected) and scheme.lower() == "bearer"
        if has_key or request.url.path == "/health":
            return await call_next(request)
        message = "this server needs its API key: send 'Authorization: Bearer KEY'"
        return JSONResponse({"error": {"type": "unauthorized", "message": message}}, 401)

    return guard


def _workers(device: str) -> ThreadPoolExecutor:
    """On a CPU several requests are answered at the same time, each on one thread: a dozen rows per
    step are too few for two threads to share, and much of a step (sampling a token, Python) has no
    use for a second thread."""
    if device.startswith("cuda"):
        return ThreadPoolExecutor(1, "generator")
    return ThreadPoolExecutor(
        torch.get_num_threads(), "generator", initializer=torch.set_num_threads, initargs=(1,)
    )
