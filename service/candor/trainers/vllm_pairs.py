"""vLLM's routes for pairs: `/score`, and `/rerank` in the format of vLLM, Jina and Cohere.

Read from vllm/entrypoints/pooling of vLLM 0.32.0, where both routes put two texts into a
cross-encoder's template. Here the first text is a user's message (or templated text) and the second
text is a response to it. So `/rerank` is best-of-n in one request. Infinity sends the same
`/rerank`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from candor.client.schema import MAX_RESPONSES
from candor.trainers.contract import (
    Contract,
    ContractAnswer,
    Inputs,
    Pair,
    ScoreCall,
    Texts,
    apply_activation,
)
from candor.trainers.vllm import Truncating, example_answer, openai_list


class Activated(Truncating):
    use_activation: bool | None = Field(None, description="true asks for the sigmoid.")
    activation: bool | None = Field(None, description="Old name of `use_activation`.")
    raw_scores: bool | None = Field(
        None, description="Infinity's name: false asks for the sigmoid."
    )

    @property
    def wants_activation(self) -> bool | None:
        """The value under the newest name in the body."""
        raw = None if self.raw_scores is None else not self.raw_scores
        named = (self.use_activation, self.activation, raw)
        return next((value for value in named if value is not None), None)


class ScoreBody(Activated):
    """Two texts, under any of vLLM's names. Each of them may be a list."""

    text_1: Inputs | None = None
    text_2: Inputs | None = None
    queries: Inputs | None = None
    documents: Inputs | None = None
    items: Inputs | None = None
    data_1: Inputs | None = None
    data_2: Inputs | None = None


class RerankBody(Activated):
    query: str
    documents: Annotated[Texts, Field(min_length=1, max_length=MAX_RESPONSES)]
    top_n: int = Field(0, ge=0, description="Number of results; 0 gives all.")
    return_documents: bool = True


def read_score(body: ScoreBody) -> ScoreCall:
    firsts = next((texts for texts in (body.text_1, body.queries, body.data_1) if texts), [])
    named = (body.text_2, body.documents, body.items, body.data_2)
    seconds = next((texts for texts in named if texts), [])
    if len(firsts) == 1:
        firsts = firsts * len(seconds)
    if not seconds or len(firsts) != len(seconds):
        raise ValueError(
            f"there are {len(firsts)} first texts and {len(seconds)} second texts: send one first "
            "text, or as many first as second texts"
        )
    texts = []
    for first, second in zip(firsts, seconds, strict=True):
        if not (isinstance(first, str) and isinstance(second, str)):
            raise ValueError("/score takes texts, not token ids")
        texts.append(Pair(first, [second]))
    return ScoreCall(texts, body.truncation())


def write_score(body: ScoreBody, answer: ContractAnswer) -> dict[str, Any]:
    data = [
        {"index": index, "object": "score", "score": value}
        for index, value in enumerate(apply_activation(answer.rewards, body.wants_activation))
    ]
    return openai_list("score", data, answer)


def read_rerank(body: RerankBody) -> ScoreCall:
    return ScoreCall([Pair(body.query, body.documents)], body.truncation())


def write_rerank(body: RerankBody, answer: ContractAnswer) -> dict[str, Any]:
    """Sorted by reward, best first. Equal rewards keep the order of the body."""
    values = apply_activation(answer.rewards, body.wants_activation)
    order = sorted(range(len(values)), key=lambda index: -answer.rewards[index])
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": values[index]}
        | ({"document": {"text": body.documents[index]}} if body.return_documents else {})
        for index in order[: body.top_n or None]
    ]
    return {
        "id": f"rerank-{answer.request_id}",
        "model": answer.model,
        "usage": {"total_tokens": answer.num_tokens, "prompt_tokens": answer.num_tokens},
        "results": results,
    }


SCORE = Contract(
    client="vLLM",
    body=ScoreBody,
    needs=frozenset(),
    read=read_score,
    write=write_score,
    example={"text_1": "Is my plan good?", "text_2": ["It is perfect!"]},
    answer=example_answer("score", {"object": "score", "score": 0.75}),
)
RERANK = Contract(
    client="vLLM, Jina, Cohere, Infinity",
    body=RerankBody,
    needs=frozenset({"query", "documents"}),
    read=read_rerank,
    write=write_rerank,
    example={"query": "Is my plan good?", "documents": ["It is perfect!", "In part: it is late."]},
    answer={
        "id": "rerank-9f8e7d6c5b4a3928",
        "model": "reward-model",
        "usage": {"total_tokens": 46, "prompt_tokens": 46},
        "results": [
            {"index": 1, "relevance_score": 1.5, "document": {"text": "In part: it is late."}},
            {"index": 0, "relevance_score": 0.75, "document": {"text": "It is perfect!"}},
        ],
    },
)
