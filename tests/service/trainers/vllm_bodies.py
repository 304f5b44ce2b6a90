"""Run by .venv-vllm's Python: the fields of vLLM's own request bodies, as one line of JSON:
{path: {class: [field]}}."""

from __future__ import annotations

import json

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

if __name__ == "__main__":
    print(
        json.dumps(
            {
                path: {kind.__name__: list(kind.model_fields) for kind in kinds}
                for path, kinds in BODIES.items()
            }
        )
    )
