"""`candor generator`: a small OpenAI-form chat server over a transformers causal LM, for the demo.

Speaks the three things the generator client uses: `GET /v1/models`, `GET /health` and
`POST /v1/chat/completions` with `n`, `temperature`, `top_p`, `max_tokens`, `seed`, and a last turn
to be continued (vLLM's `continue_final_message`). A request never shares a forward with another, so
a seed gives the same samples again. No streaming, no batching over prompts: that is vLLM's work,
and `make demo GENERATOR=vllm` uses it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal, cast

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, model_validator

from candor.client.schema import Message

log = logging.getLogger(__name__)


class ChatRequest(BaseModel):
    """The fields of OpenAI's chat completion request that are honoured; others are refused."""

    model_config = {"extra": "forbid"}

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    n: Annotated[int, Field(ge=1, le=256)] = 1
    temperature: Annotated[float, Field(ge=0, le=5)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=2048)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    stream: Literal[False] = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    echo: Literal[False] = False

    @model_validator(mode="after")
    def one_end(self) -> ChatRequest:
        if self.add_generation_prompt == self.continue_final_message:
            raise ValueError("set exactly one of add_generation_prompt and continue_final_message")
        return self


def create_generator(model_path: Path, served_model_name: str, device: str) -> FastAPI:
    """The app, with the model of `model_path` loaded on `device`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from candor.forward.precision import cpu_dtype
    from candor.jobs.generator.sample import sample

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    dtype = torch.bfloat16 if device.startswith("cuda") else cpu_dtype(torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=dtype)
    cast(torch.nn.Module, model).to(device).eval()
    stop_ids = frozenset({int(tokenizer.eos_token_id)})
    workers = _workers(device)
    tokenizing = Lock()  # a fast tokenizer is not to be used by two threads at once
    app = FastAPI(title="Candor demo generator")

    def run(request: ChatRequest) -> dict[str, Any]:
        with tokenizing:
            ids = tokenizer.apply_chat_template(
                [m.model_dump() for m in request.messages],
                add_generation_prompt=request.add_generation_prompt,
                continue_final_message=request.continue_final_message,
                return_dict=False,
            )
        prompt_ids = cast(list[int], ids)
        samples = sample(
            model,
            prompt_ids,
            n=request.n,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop_ids=stop_ids,
        )
        with tokenizing:
            texts = [
                tokenizer.decode(list(drawn.token_ids), skip_special_tokens=True)
                for drawn in samples
            ]
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": drawn.finish_reason,
            }
            for index, (text, drawn) in enumerate(zip(texts, samples, strict=True))
        ]
        num_drawn = sum(len(drawn.token_ids) for drawn in samples)
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "model": served_model_name,
            "choices": choices,
            "usage": {
                "prompt_tokens": len(prompt_ids),
                "completion_tokens": num_drawn,
                "total_tokens": len(prompt_ids) + num_drawn,
            },
        }

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": served_model_name, "object": "model"}]}

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> JSONResponse:
        if request.model != served_model_name:
            message = f"model '{request.model[:80]}' is not served here; '{served_model_name}' is"
            return JSONResponse({"error": {"type": "not_found", "message": message}}, 404)
        started = time.monotonic()
        body = await asyncio.get_running_loop().run_in_executor(workers, run, request)
        log.info("%d samples in %.2f s", request.n, time.monotonic() - started)
        return JSONResponse(body)

    return app


def _workers(device: str) -> ThreadPoolExecutor:
    """Requests side by side, each on one thread: a dozen rows a step are too few for two threads to
    share, and much of a step (drawing a token, Python) has no use for a second one."""
    import torch

    if device.startswith("cuda"):
        return ThreadPoolExecutor(1, "generator")
    return ThreadPoolExecutor(
        torch.get_num_threads(), "generator", initializer=torch.set_num_threads, initargs=(1,)
    )


def serve_generator(
    *,
    model: Path,
    served_model_name: str = "",
    host: str = "127.0.0.1",
    port: int = 8001,
    device: str = "auto",
) -> None:
    """Serve a transformers causal LM in OpenAI's chat form.

    Args:
        model: folder of the causal LM and its tokenizer.
        served_model_name: the id clients must ask for; default: the folder's name.
        host: address to bind; there is no authentication, so keep it on loopback.
        port: port to bind.
        device: `cpu`, `cuda`, or `auto`.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    app = create_generator(model, served_model_name or model.name, device)
    uvicorn.run(app, host=host, port=port, log_level="warning")
