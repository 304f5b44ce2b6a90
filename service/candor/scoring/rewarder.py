"""The request path without HTTP: a `RewardRequest` in, the answer out, as bytes or as dicts.

    resolve penalties -> encode (tokeniser thread) -> batcher -> compose -> JSON

Everything a caller can get wrong is raised before the queue, with the item and response to blame.
Monitors are scored and recorded here and go no further. The answer is built as plain dicts and
encoded by orjson, several times faster than through pydantic; the tests hold it to
`RewardResponse`. orjson writes NaN as null, so nothing non-finite may reach it: the batcher refuses
such scores and `compose` such rewards.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Protocol

import orjson

from candor.batching.batcher import Batcher
from candor.client.schema import MAX_ITEMS, Message, RewardItem, RewardRequest
from candor.engines.prefix_cache import PrefixCache
from candor.errors import CandorError, DeadlineExceeded, InvalidRequest
from candor.item import Item, Scored
from candor.models.load import RewardModel
from candor.probes.combine import Combination
from candor.scoring.compose import SUM, Composed, ServedProbe, Term, compose_items, formula, resolve
from candor.scoring.responses import response_answer, token_answers
from candor.text.render import OpenTurn, Renderer
from candor.text.turns import OpenTurnItem
from candor.watch.drift import Drift
from candor.watch.metrics import Metrics


class Processes(Protocol):
    """What an engine runs in beside the server."""

    @property
    def alive(self) -> bool:
        """False once they have ended."""

    def close(self) -> None:
        """Ends them."""


class Rewarder:
    """Scores whole requests on one loaded model.

    Args:
        model: what was loaded; only its facts are used here, the weights belong to the engine.
        served: every loaded probe by name, monitors included.
        engine_name: for the answer's `model.engine`.
        model_id: the name to answer under, if not the model's own.
        combination: of several probes' terms.
        drift: what every answered response is recorded in; None records nothing.
        processes: of an engine that has some of its own.
        prefix_cache: of the engine, if it has one.
    """

    def __init__(
        self,
        *,
        model: RewardModel,
        renderer: Renderer,
        batcher: Batcher,
        served: Mapping[str, ServedProbe],
        metrics: Metrics,
        engine_name: str,
        model_id: str | None = None,
        combination: Combination = SUM,
        drift: Drift | None = None,
        processes: Processes | None = None,
        prefix_cache: PrefixCache | None = None,
    ) -> None:
        self.model = model
        self.model_id = model_id or model.id
        self.engine_name = engine_name
        self.served = dict(served)
        self.combination = combination
        self.drift = drift
        self._processes = processes
        self._prefix_cache = prefix_cache
        self.batcher = batcher
        self.marks = renderer.marks()
        self._renderer = renderer
        self._metrics = metrics
        # One thread: the tokeniser and the template are not shared between threads, and the loop
        # stays free.
        self._tokeniser = ThreadPoolExecutor(1, thread_name_prefix="tokeniser")

    @property
    def dtype(self) -> str:
        """`float32`, `bfloat16` or `float16`."""
        return self.model.dtype

    @property
    def alive(self) -> bool:
        running = self._processes is None or self._processes.alive
        return running and self.batcher.alive

    @property
    def formula(self) -> str:
        """The served formula, before any request's overrides."""
        return formula(resolve(self.served, {}), self.combination)

    async def score(self, request: RewardRequest, deadline: float) -> bytes:
        """The JSON of a `RewardResponse`; see `answer`."""
        return orjson.dumps(await self.answer(request, deadline))

    async def answer(self, request: RewardRequest, deadline: float) -> dict[str, Any]:
        """A `RewardResponse` as plain dicts: what the trainers' routes put into their own words.

        Args:
            deadline: `time.monotonic()` seconds.

        Raises:
            CandorError: with `item` and `response` set where one is to blame. All or nothing: a
                request with one bad item has no answer.
        """
        penalties = resolve(self.served, request.penalties)
        places = response_places(request.items)
        items = await self._encode(request, places, deadline)
        scored = await self._submit(items, places, deadline)
        return self._answer(request, places, items, scored, penalties)

    async def raw_scores(self, items: list[RewardItem], timeout_s: float) -> tuple[float, ...]:
        """R and every S, monitors too, of every response in order: what the sentinel compares."""
        deadline = time.monotonic() + timeout_s
        places = response_places(items)
        encoded = await self._encode(RewardRequest(items=items), places, deadline)
        scored = await self._submit(encoded, places, deadline)
        return tuple(
            value
            for one in scored
            for value in (
                one.score.base_reward,
                *(one.score.readings[name].score for name in sorted(one.score.readings)),
            )
        )

    async def decode(self, token_ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of token ids.

        Raises:
            InvalidRequest: an id that the tokeniser does not have; `item` says in which list.
        """

        def decode_all() -> list[str]:
            texts = []
            for number, ids in enumerate(token_ids):
                try:
                    texts.append(self._renderer.decode(ids))
                except CandorError as error:
                    raise error.at(number) from None
            return texts

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokeniser, decode_all)

    def forget(self) -> None:
        """Nothing computed so far is given again."""
        if self._prefix_cache is not None:
            self._prefix_cache.clear()

    def close(self) -> None:
        """Let the threads go. Nothing may be submitted afterwards."""
        self._tokeniser.shutdown(wait=False, cancel_futures=True)
        self.batcher.close()
        if self._processes is not None:
            self._processes.close()

    async def _encode(
        self, request: RewardRequest, places: Sequence[tuple[int, int]], deadline: float
    ) -> list[Item]:
        """Every response of the request as an `Item`, in order, made in the tokeniser thread."""
        abandoned = threading.Event()

        def encode_all() -> list[Item]:
            began = time.monotonic()
            items = []
            for index, number in places:
                if abandoned.is_set() or time.monotonic() > deadline:
                    raise DeadlineExceeded("the deadline passed before the texts were tokenised")
                items.append(self._encode_one(request, index, number))
            self._metrics.stage_s.labels("tokenise").observe(time.monotonic() - began)
            return items

        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._tokeniser, encode_all)
        finally:
            abandoned.set()

    def _encode_one(self, request: RewardRequest, index: int, number: int) -> Item:
        item = request.items[index]
        context: Sequence[Message] | str | OpenTurn | None = item.messages
        if context is None:
            context = item.prompt
        if isinstance(item, OpenTurnItem) and item.prompt is not None:
            context = OpenTurn(item.prompt)
        if context is None:
            raise InvalidRequest("give exactly one of 'messages' and 'prompt'", item=index)
        try:
            return self._renderer.encode(
                context,
                item.responses[number],
                truncation=request.truncation,
                want_tokens="tokens" in request.include,
            )
        except CandorError as error:
            raise error.at(index, number) from None

    async def _submit(
        self,
        items: Sequence[Item],
        places: Sequence[tuple[int, int]],
        deadline: float,
    ) -> list[Scored]:
        try:
            return await self.batcher.submit(items, deadline=deadline)
        except CandorError as error:
            if error.item is None:
                raise
            # The batcher counts items as submitted; the caller counts items and responses.
            raise error.at(*places[error.item]) from error

    def _answer(
        self,
        request: RewardRequest,
        places: Sequence[tuple[int, int]],
        items: Sequence[Item],
        scored: Sequence[Scored],
        penalties: Sequence[Term],
    ) -> dict[str, Any]:
        results: list[dict[str, Any]] = [
            {"index": index, "best": 0, "responses": []} for index in range(len(request.items))
        ]
        rewards = compose_items(places, [one.score for one in scored], penalties, self.combination)
        for (index, number), item, one, composed in zip(
            places, items, scored, rewards, strict=True
        ):
            self._record(one, composed, item)
            answer = response_answer(one, composed, item)
            if item.want_tokens:
                text = request.items[index].responses[number]
                answer["tokens"] = token_answers(one, item, text, composed)
            results[index]["responses"].append(answer)
        for result in results:
            of_item = [answer["reward"] for answer in result["responses"]]
            result["best"] = of_item.index(max(of_item))
        sent = sum(item.num_tokens for item in items)
        computed = sum(one.num_computed_tokens for one in scored)
        return {
            "model": {
                "id": self.model_id,
                "revision": self.model.weights_sha256,
                "engine": self.engine_name,
                "formula": formula(penalties, self.combination),
                "combine": asdict(self.combination),
            },
            "results": results,
            "usage": {
                "num_tokens": sent,
                "num_computed_tokens": computed,
                "num_shared_tokens": max(0, sent - computed),
            },
            "timings": {
                "queue_s": max(one.queue_s for one in scored),
                "forward_s": max(one.forward_s for one in scored),
            },
        }

    def _record(self, one: Scored, composed: Composed, item: Item) -> None:
        self._metrics.base_reward.observe(one.score.base_reward)
        self._metrics.reward.observe(composed.reward)
        for name, reading in one.score.readings.items():
            self._metrics.probe_score.labels(name).observe(reading.score)
        if self.drift is not None:
            self.drift.record(one.score, item.response_end - item.response_start)


def response_places(items: Sequence[RewardItem]) -> list[tuple[int, int]]:
    """(item, response) of every response of a request, in order.

    Raises:
        InvalidRequest: more than `MAX_ITEMS` of them.
    """
    total = sum(len(item.responses) for item in items)
    if total > MAX_ITEMS:
        raise InvalidRequest(f"{total} responses in one request; send at most {MAX_ITEMS}")
    return [
        (index, number) for index, item in enumerate(items) for number in range(len(item.responses))
    ]
