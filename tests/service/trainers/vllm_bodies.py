"""Run by .venv-vllm's Python. In: our documented answers, {path: answer}, which vLLM's own types
must be able to read. Out: the fields of its own request bodies, {path: {class: [field]}}."""

from __future__ import annotations

import json
import sys

from vllm.entrypoints.pooling.classify import protocol as classify
from vllm.entrypoints.pooling.embed import protocol as embed
from vllm.entrypoints.pooling.pooling import protocol as pooling
from vllm.entrypoints.pooling.scoring import protocol as scoring
from vllm.entrypoints.serve.tokenize import protocol as tokenize

BODIES = {
    "/classify": [classify.ClassificationCompletionRequest, classify.ClassificationChatRequest],
    "/pooling": [
        pooling.PoolingCompletionRequest,
        pooling.PoolingChatRequest,
        pooling.IOProcessorRequest,
    ],
    "/v1/embeddings": [
        embed.EmbeddingCompletionRequest,
        embed.EmbeddingChatRequest,
        embed.EmbeddingBatchChatRequest,
        embed.EmbeddingChatInputRequest,
        embed.EmbeddingBatchChatInputRequest,
    ],
    "/score": [
        scoring.ScoreDataRequest,
        scoring.ScoreQueriesDocumentsRequest,
        scoring.ScoreQueriesItemsRequest,
        scoring.ScoreTextRequest,
    ],
    "/rerank": [scoring.RerankRequest],
    "/tokenize": [tokenize.TokenizeCompletionRequest, tokenize.TokenizeChatRequest],
}

ANSWERS = {
    "/classify": classify.ClassificationResponse,
    "/pooling": pooling.PoolingResponse,
    "/v1/embeddings": embed.EmbeddingResponse,
    "/score": scoring.ScoreResponse,
    "/rerank": scoring.RerankResponse,
    "/tokenize": tokenize.TokenizeResponse,
}

if __name__ == "__main__":
    given = json.load(sys.stdin)
    assert given.keys() == ANSWERS.keys()
    for path, answer in given.items():
        ANSWERS[path].model_validate(answer)
    print(
        json.dumps(
            {
                path: {kind.__name__: list(kind.model_fields) for kind in kinds}
                for path, kinds in BODIES.items()
            }
        )
    )
