"""vLLM's scheduler, changed to read a request's context from the prefix cache, never its response.

vLLM gives a pooling model the activations of the tokens that it computes, and cached tokens are not
computed. So for per-token tasks vLLM reads no cache at all (`PoolingParams.verify`), and a group's
prompt would be computed once per candidate. Candor reads probes at response tokens only. This
scheduler looks the cache up as if a request ended where its response begins. So the context is
shared and the whole response is computed, also if two candidates begin with the same words or the
same text is scored again. Runs in vLLM's engine process (`SchedulerConfig.scheduler_cls`).
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

from candor.engines.vllm.plugin import RESPONSE_START


class ContextCacheScheduler(Scheduler):  # type: ignore[misc]  # vLLM is not typed here
    """vLLM's scheduler, except that a cache lookup finds a request's context alone."""

    def _get_local_prefix_cache_hit(self, request: Any) -> Any:
        return super()._get_local_prefix_cache_hit(_Context(request))


class _Context:
    """A request cut off after its context and one more token, because a lookup finds at most
    `num_tokens - 1` tokens. All other attributes are the request's own."""

    def __init__(self, request: Any) -> None:
        self._request = request
        wanted = (request.pooling_params.extra_kwargs or {}).get(RESPONSE_START, 0)
        self.num_tokens = min(request.num_tokens, wanted + 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)
