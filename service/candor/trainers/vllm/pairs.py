"""vLLM's routes for pairs: `/score`, and `/rerank` in the formats of vLLM, Jina, Cohere and
Infinity.

Read from vllm/entrypoints/pooling of vLLM 0.32.0, where both routes put two texts into a
cross-encoder's template. Here the first text is a user's message (or templated text) and the second
text is a response to it. So `/rerank` is best-of-n in one request.

Infinity's body has `raw_scores`, and its answer a plain string as `document` (infinity_server.py at
fcb951cb). LangChain's Infinity reranker always sends `raw_scores: false`, which asks for the
sigmoid; `--trainer-activation never` answers the reward all the same.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, FailFast, Field

from candor.client.schema import MAX_ITEMS, MAX_RESPONSES, text_or_parts
from candor.trainers.contract import Contract, ContractAnswer, Pair, ScoreCall
from candor.trainers.fields import Refused
from candor.trainers.vllm.bodies import AS_TRAINED, Activated, VllmBody, example_answer, openai_list

NOT_TEXT = frozenset({"image", "image_url", "images", "video", "video_url", "audio", "multi_modal"})
"""Fields of a document that hold something else than text."""


def text_of(value: object) -> str:
    """The text of a text, of `{"text": ...}`, of `{"content": ...}`, or of a list of text parts.

    Raises:
        ValueError: the value is none of these, or holds more than text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and not NOT_TEXT & value.keys():
        if isinstance(value.get("text"), str) and "content" not in value:
            return str(value["text"])
        if value.keys() == {"content"} and not isinstance(value["content"], dict):
            return text_of(value["content"])
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        parts = text_or_parts(value)
        assert isinstance(parts, list)
        return "".join(part.text for part in parts)
    raise ValueError(
        "must be a text, an object with 'text', or content parts of type text; not token ids"
    )


def as_list(value: object) -> object:
    """A single text as a list of one. A list is a list of texts, never the parts of one text."""
    return [value] if isinstance(value, str | dict) else value


def check_text(value: object) -> object:
    text_of(value)
    return value


Given = str | dict[str, Any] | list[dict[str, Any]]
AnyText = Annotated[Any, BeforeValidator(check_text, json_schema_input_type=Given)]
"""A text in one of the forms that `text_of` reads, unchanged."""
TextList = Annotated[
    list[AnyText] | None,
    FailFast(),
    Field(min_length=1, max_length=MAX_ITEMS),
    BeforeValidator(as_list, json_schema_input_type=str | dict[str, Any] | list[Given]),
]
Ranked = Annotated[
    list[AnyText],
    FailFast(),
    Field(min_length=1, max_length=MAX_RESPONSES),
    BeforeValidator(as_list, json_schema_input_type=str | dict[str, Any] | list[Given]),
]
WHOLE = "no text but the oldest context is cut; shorten the text, or leave the field out"
INSTRUCTION = "the RM's chat template takes no instruction; write it into the first text"


class PairBody(VllmBody):
    max_tokens_per_query: Annotated[Any, Refused(WHOLE, (0,))] = None
    max_tokens_per_doc: Annotated[Any, Refused(WHOLE, (0,))] = None
    instruction: Annotated[Any, Refused(INSTRUCTION, ("",))] = None
    chat_template_kwargs: Annotated[Any, Refused(AS_TRAINED, ({},))] = None


SGLANG_SCORE = "SGLang's /v1/score is not served; send 'queries' and 'items'"


class ScoreBody(PairBody, Activated):
    """Two texts, under any of vLLM's names. Each of them may be a list."""

    text_1: TextList = None
    text_2: TextList = None
    queries: TextList = None
    documents: TextList = None
    items: TextList = None
    data_1: TextList = None
    data_2: TextList = None
    query: Annotated[Any, Refused(SGLANG_SCORE)] = None
    label_token_ids: Annotated[Any, Refused(SGLANG_SCORE)] = None


class Ranking(PairBody):
    query: AnyText
    documents: Ranked
    top_n: int = Field(0, ge=0, description="Number of results; 0 gives all.")

    def order(self, answer: ContractAnswer) -> list[int]:
        """The indices of the best documents, best first. Equal rewards keep the body's order."""
        rewards = answer.rewards
        ranked = sorted(range(len(rewards)), key=lambda index: -rewards[index])
        return ranked[: self.top_n or None]


class RerankBody(Ranking, Activated):
    return_documents: bool = True
    instruct: Annotated[Any, Refused(INSTRUCTION, ("",))] = None
    rank_fields: Annotated[Any, Refused("documents are ranked by 'text'", (["text"],))] = None
    max_chunks_per_doc: Annotated[Any, Refused(WHOLE)] = None
    return_embeddings: Annotated[Any, Refused("there are no embeddings to return", (False,))] = None
    top_k: Annotated[Any, Refused("send 'top_n'")] = None


class InfinityBody(Ranking):
    raw_scores: bool = Field(description="false asks for the sigmoid.")
    return_documents: bool = False


def one_of(body: ScoreBody, *names: str) -> list[Any]:
    """The texts under the one of these names that the body has.

    Raises:
        ValueError: the body has several of them.
    """
    found = [name for name in names if getattr(body, name) is not None]
    if len(found) > 1:
        raise ValueError("send only one of " + " and ".join(f"'{name}'" for name in found))
    return getattr(body, found[0]) if found else []


def read_score(body: ScoreBody) -> ScoreCall:
    firsts = one_of(body, "text_1", "queries", "data_1")
    seconds = one_of(body, "text_2", "documents", "items", "data_2")
    if len(firsts) == 1:
        firsts = firsts * len(seconds)
    if not seconds or len(firsts) != len(seconds):
        raise ValueError(
            f"there are {len(firsts)} first texts and {len(seconds)} second texts: send one first "
            "text, or as many first as second texts"
        )
    pairs = zip(firsts, seconds, strict=True)
    texts = [Pair(text_of(first), [text_of(second)]) for first, second in pairs]
    return ScoreCall(texts, body.truncation())


def write_score(body: ScoreBody, answer: ContractAnswer) -> dict[str, Any]:
    data = [
        {"index": index, "object": "score", "score": value}
        for index, value in enumerate(answer.values(body.wants_activation))
    ]
    return openai_list("score", data, body, answer)


def read_ranking(body: Ranking) -> ScoreCall:
    documents = [text_of(document) for document in body.documents]
    return ScoreCall([Pair(text_of(body.query), documents)], body.truncation())


def write_rerank(body: RerankBody, answer: ContractAnswer) -> dict[str, Any]:
    """vLLM's, Jina's and Cohere's answer. A document that was sent as an object comes back as it
    was sent, with its other fields."""

    def shown(index: int) -> dict[str, Any]:
        document = body.documents[index]
        return document if isinstance(document, dict) else {"text": text_of(document)}

    values = answer.values(body.wants_activation)
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": values[index]}
        | ({"document": shown(index)} if body.return_documents else {})
        for index in body.order(answer)
    ]
    return {
        "id": f"rerank-{body.request_id or answer.request_id}",
        "model": answer.model,
        "usage": {"total_tokens": answer.num_tokens, "prompt_tokens": answer.num_tokens},
        "results": results,
    }


def write_infinity(body: InfinityBody, answer: ContractAnswer) -> dict[str, Any]:
    values = answer.values(not body.raw_scores)
    results: list[dict[str, Any]] = [
        {"relevance_score": values[index], "index": index}
        | ({"document": text_of(body.documents[index])} if body.return_documents else {})
        for index in body.order(answer)
    ]
    return {
        "object": "rerank",
        "results": results,
        "model": answer.model,
        "usage": {"prompt_tokens": answer.num_tokens, "total_tokens": answer.num_tokens},
        "id": f"infinity-{body.request_id or answer.request_id}",
        "created": answer.created,
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
TO_RANK = {"query": "Is my plan good?", "documents": ["It is perfect!", "In part: it is late."]}
RERANK = Contract(
    client="vLLM, Jina, Cohere",
    body=RerankBody,
    needs=frozenset({"query", "documents"}),
    read=read_ranking,
    write=write_rerank,
    example=TO_RANK,
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
INFINITY = Contract(
    client="Infinity",
    body=InfinityBody,
    needs=frozenset({"query", "documents", "raw_scores"}),
    read=read_ranking,
    write=write_infinity,
    example=TO_RANK | {"raw_scores": True, "return_documents": True},
    answer={
        "object": "rerank",
        "results": [
            {"relevance_score": 1.5, "index": 1, "document": "In part: it is late."},
            {"relevance_score": 0.75, "index": 0, "document": "It is perfect!"},
        ],
        "model": "reward-model",
        "usage": {"prompt_tokens": 46, "total_tokens": 46},
        "id": "infinity-9f8e7d6c5b4a3928",
        "created": 1764000000,
    },
)
