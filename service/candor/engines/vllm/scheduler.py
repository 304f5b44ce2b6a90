"""vLLM's scheduler, reading a request's context from the prefix cache and never its response.

vLLM gives a pooling model the activations of the tokens it computes, and a cached token is not
computed: so of per-token tasks it reads no cache at all (`PoolingParams.verify`), and a group's
prompt would be computed once a candidate. Candor reads probes at response tokens only. Under this
scheduler the cache is looked up as if a request ended where its response begins: the context is
shared, all of the response is computed, also where two candidates open with the same words or the
same text is scored again. Runs in vLLM's engine process (`SchedulerConfig.scheduler_cls`).
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

from candor.engines.vllm.plugin import RESPONSE_START


class ContextCacheScheduler(Scheduler):  # type: ignore[misc]  # vLLM is not typed here
    """As vLLM's, but for what a cache lookup may find."""

    def _get_local_prefix_cache_hit(self, request: Any) -> Any:
        return super()._get_local_prefix_cache_hit(_Context(request))


class _Context:
    """A request that is no longer than its context and the token after it.

    The lookup finds at most `num_tokens - 1` tokens; everything else is the request's own.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        wanted = (request.pooling_params.extra_kwargs or {}).get(RESPONSE_START, 0)
        self.num_tokens = min(request.num_tokens, wanted + 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)
