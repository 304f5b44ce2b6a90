"""A reward server as trainers ship it: one request at a time, a left-padded batch per request.

Most users have such a server today. This one behaves like OpenRLHF's `serve_rm` 0.11: `POST
/get_reward` with `{"query": [...]}`, the model called inside the event loop, no batching across
requests, no special tokens added, R at the last token, the head in the model's dtype. The code is
ours and made for the comparison; do not use it to serve.
"""

from __future__ import annotations

from typing import Literal

import torch
import uvicorn
from cyclopts import App
from fastapi import FastAPI, Request
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MAX_LENGTH = 2048


def create_app(folder: str, dtype: torch.dtype) -> FastAPI:
    """The app, with its model loaded."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
    app = FastAPI()

    @app.post("/get_reward")
    async def get_reward(request: Request) -> dict[str, object]:
        queries = (await request.json())["query"]
        batch = tokenizer(
            queries,
            add_special_tokens=False,
            padding=True,
            truncation=True,
            max_length=MAX_LENGTH,
            return_tensors="pt",
        )
        mask = batch["attention_mask"]
        with torch.inference_mode():
            hidden = model.model(
                input_ids=batch["input_ids"],
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                use_cache=False,
            ).last_hidden_state
            rewards = model.score(hidden[:, -1]).squeeze(-1).float().tolist()
        lengths = mask.sum(-1).tolist()
        return {"rewards": rewards, "scores": rewards, "extra_logs": {"num_tokens": lengths}}

    return app


cli = App(name="python -m bench.arms.padded_loop")


@cli.default
def serve_padded(
    *, model: str, port: int, dtype: Literal["float32", "bfloat16", "float16"]
) -> None:
    """Serve a reward model, one padded batch per request.

    Parameters
    ----------
    model
        Folder of the reward model.
    port
        Port on 127.0.0.1.
    dtype
        Dtype of the weights.
    """
    app = create_app(model, getattr(torch, dtype))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    cli()
