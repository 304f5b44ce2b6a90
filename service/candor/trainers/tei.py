"""Text Embeddings Inference's `/predict`, and its `/rerank`, which differs from vLLM's by `texts`.

Read from router/src/http/types.rs and server.rs at 0d124dc9 (after v1.9.3). Two strings in a list
are one pair, not two texts. A pair is a user's message (or templated text) and a response. A single
text is flat. `raw_scores: false` asks for the sigmoid, and LiteLLM always sends it;
`--trainer-activation never` answers the reward all the same. Without `raw_scores` there is no
sigmoid (see `vllm/texts.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from candor.client.schema import MAX_ITEMS, MAX_RESPONSES
from candor.trainers.contract import (
    ONE_LABEL,
    Contract,
    ContractAnswer,
    Flat,
    Pair,
    ScoreCall,
    Texts,
)
from candor.trainers.fields import Body, Model, Refused, User
from candor.trainers.openrlhf import QUERY


class TEIBody(Body):
    truncate: bool | None = Field(
        None, description="true drops the oldest tokens of the context from a text over the window."
    )
    truncation_direction: Literal["left", "Left", "right", "Right"] | None = Field(
        None, description="Of a text that is cut: left or absent."
    )
    raw_scores: bool | None = Field(None, description="false asks for the sigmoid.")
    model: Model = None
    user: User = None
    prompt_name: Annotated[Any, Refused("the server adds no prompt; write it into the text")] = None

    def truncation(self) -> Literal["left"] | None:
        """The truncation that the body asks for, or None.

        Raises:
            ValueError: the body asks to cut the response.
        """
        if not self.truncate:
            return None
        if (self.truncation_direction or "left").lower() != "left":
            raise ValueError("'truncation_direction': right would cut the response; send left")
        return "left"

    def values(self, answer: ContractAnswer) -> list[float]:
        return answer.values(self.raw_scores is False)


class PredictBody(TEIBody):
    inputs: Any = Field(
        description="A text, a list of two texts (a pair), or a list of lists of one or two texts."
    )
    # huggingface_hub's client always sends it.
    parameters: Annotated[
        Any, Refused("send raw_scores, truncate and truncation_direction beside 'inputs'", ({},))
    ] = None

    @property
    def batched(self) -> bool:
        return isinstance(self.inputs, list) and isinstance((self.inputs or [""])[0], list)


class TextsBody(TEIBody):
    query: str
    texts: Annotated[Texts, Field(min_length=1, max_length=MAX_RESPONSES)]
    return_text: bool = False


def read_predict(body: PredictBody) -> ScoreCall:
    inputs = body.inputs if body.batched else [body.inputs]
    if len(inputs) > MAX_ITEMS:
        raise ValueError(f"'inputs' has {len(inputs)} texts; send at most {MAX_ITEMS}")
    return ScoreCall(
        [read_input(part, number) for number, part in enumerate(inputs)], body.truncation()
    )


def read_input(part: object, number: int) -> Flat | Pair:
    """One element of `inputs`: one text is flat, two texts are a pair."""
    texts = [part] if isinstance(part, str) else part
    if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"'inputs': number {number} is neither a text nor a list of texts")
    if len(texts) == 1:
        return Flat(texts[0])
    if len(texts) == 2:
        return Pair(texts[0], [texts[1]])
    raise ValueError(f"'inputs': number {number} must be one text or two, and has {len(texts)}")


def write_predict(body: PredictBody, answer: ContractAnswer) -> list[Any]:
    predictions = [[{"score": value, "label": ONE_LABEL}] for value in body.values(answer)]
    return predictions if body.batched else predictions[0]


def read_texts(body: TextsBody) -> ScoreCall:
    return ScoreCall([Pair(body.query, body.texts)], body.truncation())


def write_texts(body: TextsBody, answer: ContractAnswer) -> list[dict[str, Any]]:
    """Sorted by reward, best first. Equal rewards keep the order of the body."""
    values = body.values(answer)
    order = sorted(range(len(values)), key=lambda index: -answer.rewards[index])
    return [
        {"index": index, "score": values[index]}
        | ({"text": body.texts[index]} if body.return_text else {})
        for index in order
    ]


PREDICT = Contract(
    client="Text Embeddings Inference",
    body=PredictBody,
    needs=frozenset({"inputs"}),
    read=read_predict,
    write=write_predict,
    example={"inputs": [[QUERY], ["Is my plan good?", "It is perfect!"]], "raw_scores": True},
    answer=[[{"score": 1.5, "label": "LABEL_0"}], [{"score": 0.75, "label": "LABEL_0"}]],
)
RERANK = Contract(
    client="Text Embeddings Inference",
    body=TextsBody,
    needs=frozenset({"query", "texts"}),
    read=read_texts,
    write=write_texts,
    example={"query": "Is my plan good?", "texts": ["It is perfect!", "In part: it is late."]},
    answer=[{"index": 1, "score": 1.5}, {"index": 0, "score": 0.75}],
)
