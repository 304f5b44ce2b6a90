"""A reward server as trainers ship them: one request at a time, one left-padded batch a request.

The peer that most users have today, in the manner of OpenRLHF's `serve_rm` 0.11: `POST /get_reward`
with `{"query": [...]}`, the model called inside the event loop, no batching across requests, no
special tokens added, R at the last token, the head in the model's dtype. Written for the comparison
(the behaviour, not the code, is theirs); nobody should serve with it.
"""

from __future__ import annotations

import argparse

import torch
import uvicorn
from fastapi import FastAPI, Request
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MAX_LENGTH = 2048


def create_app(folder: str, dtype: torch.dtype) -> FastAPI:
    """The app, its model loaded."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of the reward model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], required=True)
    flags = parser.parse_args()
    app = create_app(flags.model, getattr(torch, flags.dtype))
    uvicorn.run(app, host="127.0.0.1", port=flags.port, log_level="warning")


if __name__ == "__main__":
    main()
