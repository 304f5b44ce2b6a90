"""SGLang's native `/classify`.

Read from python/sglang/srt/entrypoints/http_server.py of SGLang 0.5.23. verl's old engine client
calls it in sglang_rollout/http_server_engine.py `reward_score`. The body has `text` or `input_ids`,
and the reward is in `embedding[0]`. A single input gives an object, a list gives a list. There is
never an activation.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from candor.trainers.contract import (
    INPUTS,
    Contract,
    ContractAnswer,
    Flat,
    ScoreCall,
    text_inputs,
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

Routing = Annotated[Any, Harmless("it says which worker does the work")]
Tracing = Annotated[Any, Harmless("it says what is logged")]


class SGLangBody(Body):
    text: Annotated[Any, INPUTS] = None
    input_ids: Annotated[Any, INPUTS] = None
    rid: str | list[str] | None = Field(
        None, description="The id of each input; `meta_info.id` repeats it."
    )
    model: Model = None
    user: User = None
    priority: Priority = None
    routing_key: Routing = None
    routed_dp_rank: Routing = None
    data_parallel_rank: Routing = None
    bootstrap_host: Routing = None
    bootstrap_port: Routing = None
    bootstrap_room: Routing = None
    http_worker_ipc: Routing = None
    background: Routing = None
    log_metrics: Tracing = None
    no_logs: Tracing = None
    external_trace_header: Tracing = None
    received_time: Tracing = None
    sampling_params: Annotated[Any, Harmless("nothing is sampled")] = None
    return_pooled_hidden_states: Annotated[
        Any, Refused("this server returns no hidden states", (False,))
    ] = None
    is_cross_encoder_request: Annotated[
        Any, Refused("send a text that holds prompt and response, or use /score", (False,))
    ] = None
    dimensions: Dimensions = None
    lora_path: Lora = None
    lora_id: Lora = None
    image_data: Media = None
    video_data: Media = None
    audio_data: Media = None
    modalities: Media = None
    input_embeds: Vectors = None
    embed_overrides: Vectors = None
    embed_override_token_id: Vectors = None
    positional_embed_overrides: Vectors = None

    @property
    def inputs(self) -> Any:
        """The input by the name that the body uses."""
        return self.input_ids if self.text is None else self.text

    @property
    def single(self) -> bool:
        """Whether the body has one input that is not in a list. Then the answer is no list."""
        return isinstance(self.inputs, str) or isinstance(self.inputs[0], int)


def read(body: SGLangBody) -> ScoreCall:
    if body.text is not None and body.input_ids is not None:
        raise ValueError("send exactly one of 'text' and 'input_ids'")
    try:
        texts = [Flat(text) for text in text_inputs(body.inputs)]
    except ValueError as error:
        name = "input_ids" if body.text is None else "text"
        raise ValueError(f"'{name}': {error}") from None
    if body.rid is not None and body.single != isinstance(body.rid, str):
        raise ValueError("'rid' must be one id for one input, and a list of ids for a list")
    if isinstance(body.rid, list) and len(body.rid) != len(texts):
        raise ValueError(f"'rid' has {len(body.rid)} ids for {len(texts)} inputs")
    return ScoreCall(texts)


def write(body: SGLangBody, answer: ContractAnswer) -> Any:
    given = [body.rid] if isinstance(body.rid, str) else body.rid
    data = [
        {
            "embedding": [response["reward"]],
            "meta_info": {
                "id": given[index] if given else f"{answer.request_id}-{index}",
                "prompt_tokens": response["num_tokens"],
                "completion_tokens": 0,
            },
        }
        for index, response in enumerate(answer.responses)
    ]
    return data[0] if body.single else data


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
