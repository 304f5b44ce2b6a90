"""A running vLLM that any number of threads may call at once.

A call that arrives while vLLM computes joins vLLM's very next step; it does not wait for earlier
calls. This is vLLM's own asynchronous engine (`vllm.v1.engine.async_llm.AsyncLLM`, read in vLLM
0.32.0), on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

CLOSE_TIMEOUT_S = 10.0
"""How long `close` waits for the event loop. Calls still waiting then end with the process."""


class VllmClient:
    """vLLM's processes: started here, ended by `close`.

    Args:
        arguments: arguments of vLLM's engine, by name.

    Raises:
        Exception: any exception that vLLM raises when it does not start.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        # vLLM's defaults for throughput: larger steps than the defaults of its HTTP server.
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
        """Whether vLLM's processes run. They are never started again."""
        return not self._vllm.errored

    def encode(self, prompts: Sequence[Sequence[int]], params: Sequence[Any]) -> list[Any]:
        """vLLM's `PoolingRequestOutput` of each prompt of token ids, in order.

        Raises:
            vllm.v1.engine.exceptions.EngineDeadError: vLLM's processes have ended, before this call
                or while it waited; every further call raises it too.
        """
        answers = self._encode_all(prompts, params)
        return asyncio.run_coroutine_threadsafe(answers, self._loop).result()

    def close(self) -> None:
        """Ends vLLM's processes. `encode` must not be called afterwards."""
        self._vllm.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)

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

    async def _encode_all(
        self, prompts: Sequence[Sequence[int]], params: Sequence[Any]
    ) -> list[Any]:
        pairs = zip(prompts, params, strict=True)
        return await asyncio.gather(*(self._encode_prompt(*pair) for pair in pairs))

    async def _encode_prompt(self, prompt: Sequence[int], params: Any) -> Any:
        tokens = {"type": "token", "prompt_token_ids": list(prompt)}
        async for output in self._vllm.encode(tokens, params, request_id=str(next(self._numbers))):
            answer = output
        return answer
