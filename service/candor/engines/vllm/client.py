"""A running vLLM that any number of threads may ask at once: what is asked while it computes joins
its very next step, in place of waiting until everything before has been answered.

That is vLLM's own asynchronous engine (`vllm.v1.engine.async_llm.AsyncLLM`, read in vLLM 0.32.0),
on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

CLOSE_S = 10.0
"""For the loop to end; whoever still waits for vLLM by then is left to the process's end."""


class VllmClient:
    """vLLM's processes, started with the first of these and ended by `close`.

    Args:
        arguments: of vLLM's engine, by name.

    Raises:
        Exception: whatever vLLM raises where it does not start.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        # Of vLLM's defaults those for throughput: larger steps than its HTTP server's.
        self._vllm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**{"disable_log_stats": True, **arguments}),
            usage_context=UsageContext.LLM_CLASS,
        )
        self._numbers = count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="vllm-client", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether vLLM's processes run; once they have ended, they stay so."""
        return not self._vllm.errored

    def encode(self, prompts: Sequence[Sequence[int]], params: Sequence[Any]) -> list[Any]:
        """vLLM's `PoolingRequestOutput` of each prompt of token ids, in order.

        Raises:
            vllm.v1.engine.exceptions.EngineDeadError: vLLM's processes have ended, before this call
                or while it waited; every further call raises it too.
        """
        asked = self._all(prompts, params)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    def close(self) -> None:
        """Ends vLLM's processes. Nothing may be asked afterwards."""
        self._vllm.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            self._loop.close()

    async def _all(self, prompts: Sequence[Sequence[int]], params: Sequence[Any]) -> list[Any]:
        each = [self._one(*one) for one in zip(prompts, params, strict=True)]
        return await asyncio.gather(*each)

    async def _one(self, prompt: Sequence[int], params: Any) -> Any:
        tokens = {"type": "token", "prompt_token_ids": list(prompt)}
        async for output in self._vllm.encode(tokens, params, request_id=str(next(self._numbers))):
            answer = output
        return answer
