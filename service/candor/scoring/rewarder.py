"""The request path without HTTP: a `ScoringRequest` in, the answer out, as bytes or as dicts.

    resolve penalties -> encode (tokeniser thread) -> batcher -> compose -> answer

Every invalid request is refused before the queue. Monitors are scored and recorded here, and are
never in the answer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar

import orjson

from candor.batching.batcher import Batcher
from candor.errors import CandorError, DeadlineExceeded
from candor.item import Engine, Item, Scored
from candor.models.load import RewardModel
from candor.probes.combine import Combination
from candor.scoring.answer import ScoredResponse, answer
from candor.scoring.compose import SUM, Term, compose_groups, formula, resolve
from candor.scoring.served import Served
from candor.text.render import Renderer
from candor.text.request import Group, ScoringRequest
from candor.watch.drift import Drift
from candor.watch.metrics import Metrics

T = TypeVar("T")


class Rewarder:
    """Scores whole requests on one loaded model.

    Args:
        model: the loaded model. Only its metadata is used here; the engine uses the weights.
        engine: runs the batches that `batcher` forms.
        served: every loaded probe.
        model_id: the model's name in answers; by default the model's own.
        combination: how the terms of several probes become one penalty.
        drift: records every answered response; None records nothing.
    """

    def __init__(
        self,
        *,
        model: RewardModel,
        renderer: Renderer,
        engine: Engine,
        batcher: Batcher,
        served: Served,
        metrics: Metrics,
        model_id: str | None = None,
        combination: Combination = SUM,
        drift: Drift | None = None,
    ) -> None:
        self.model = model
        self.model_id = model_id or model.id
        self.served = served
        self.combination = combination
        self.drift = drift
        self.batcher = batcher
        self.marks = renderer.marks()
        self._engine = engine
        self._renderer = renderer
        self._metrics = metrics
        # One thread, because the tokeniser and the template must not be shared between threads. Not
        # the loop's thread, so that the loop stays free.
        self._tokeniser = ThreadPoolExecutor(1, thread_name_prefix="tokeniser")

    @property
    def engine_name(self) -> str:
        """The answer's `model.engine`."""
        return self._engine.name

    @property
    def dtype(self) -> str:
        """`float32`, `bfloat16` or `float16`."""
        return self.model.dtype

    @property
    def alive(self) -> bool:
        """Whether the engine runs, and no model thread has died or is stuck in one forward."""
        return self._engine.alive and self.batcher.alive

    @property
    def formula(self) -> str:
        """The formula without a request's overrides."""
        return formula(resolve(self.served, {}), self.combination)

    async def score(self, request: ScoringRequest, deadline: float) -> bytes:
        """The JSON of a `RewardResponse`; see `answer`."""
        return orjson.dumps(await self.answer(request, deadline))

    async def answer(self, request: ScoringRequest, deadline: float) -> dict[str, Any]:
        """A `RewardResponse` as plain dicts, which the trainers' routes translate.

        Args:
            deadline: `time.monotonic()` seconds.

        Raises:
            CandorError: one bad response fails the whole request. `item` and `response` are the
                indices of the group and of its response, if the error concerns one response.
        """
        penalties = resolve(self.served, request.penalties)
        places = request.places()
        items = await self._encode(request, places, deadline)
        scored = await self._submit(items, places, deadline)
        rewards = compose_groups(
            places, [response.score for response in scored], penalties, self.combination
        )
        responses = [
            ScoredResponse(place, request.groups[place[0]].responses[place[1]], item, score, reward)
            for place, item, score, reward in zip(places, items, scored, rewards, strict=True)
        ]
        self._record(responses)
        return answer(responses, self._model_info(penalties))

    async def raw_scores(self, groups: Sequence[Group], timeout_s: float) -> tuple[float, ...]:
        """R and every S of every response, in order, monitors included. The sentinel compares
        them."""
        deadline = time.monotonic() + timeout_s
        request = ScoringRequest(tuple(groups))
        places = request.places()
        scored = await self._submit(await self._encode(request, places, deadline), places, deadline)
        return tuple(value for response in scored for value in _numbers(response))

    async def decode(self, token_ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of token ids.

        Raises:
            InvalidRequest: the tokeniser has no such id; `item` is the index of the list.
        """

        def decode_all() -> list[str]:
            texts = []
            for number, ids in enumerate(token_ids):
                try:
                    texts.append(self._renderer.decode(ids))
                except CandorError as error:
                    raise error.at(number) from None
            return texts

        return await self._in_tokeniser(decode_all)

    def forget(self) -> None:
        """Drops all results that a later forward would reuse."""
        self._engine.forget()

    def close(self) -> None:
        """Ends the threads. Nothing may be submitted afterwards."""
        self._tokeniser.shutdown(wait=False, cancel_futures=True)
        self.batcher.close()
        self._engine.close()

    async def _in_tokeniser(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._tokeniser, work)

    async def _encode(
        self, request: ScoringRequest, places: Sequence[tuple[int, int]], deadline: float
    ) -> list[Item]:
        """Every response of the request as an `Item`, in order, made in the tokeniser thread."""
        abandoned = threading.Event()

        def encode_all() -> list[Item]:
            began = time.monotonic()
            items = []
            for place in places:
                if abandoned.is_set() or time.monotonic() > deadline:
                    raise DeadlineExceeded("the deadline passed before the texts were tokenised")
                items.append(self._encode_response(request, place))
            self._metrics.stage_s.labels("tokenise").observe(time.monotonic() - began)
            return items

        try:
            return await self._in_tokeniser(encode_all)
        finally:
            abandoned.set()

    def _encode_response(self, request: ScoringRequest, place: tuple[int, int]) -> Item:
        group = request.groups[place[0]]
        try:
            return self._renderer.encode(
                group.context,
                group.responses[place[1]],
                truncation=request.truncation,
                want_tokens=request.want_tokens,
            )
        except CandorError as error:
            raise error.at(*place) from None

    async def _submit(
        self, items: Sequence[Item], places: Sequence[tuple[int, int]], deadline: float
    ) -> list[Scored]:
        try:
            return await self.batcher.submit(items, deadline=deadline)
        except CandorError as error:
            if error.item is None:
                raise
            # The batcher's index counts items; the caller's indices count groups and responses.
            raise error.at(*places[error.item]) from error

    def _model_info(self, penalties: Sequence[Term]) -> dict[str, Any]:
        return {
            "id": self.model_id,
            "revision": self.model.weights_sha256,
            "engine": self.engine_name,
            "formula": formula(penalties, self.combination),
            "combine": asdict(self.combination),
        }

    def _record(self, responses: Sequence[ScoredResponse]) -> None:
        for response in responses:
            score, item = response.scored.score, response.item
            self._metrics.on_response(score, response.composed.reward)
            if self.drift is not None:
                self.drift.record(score, item.response_end - item.response_start)


def _numbers(scored: Scored) -> list[float]:
    """R, then every probe's S in the order of the probes' names."""
    readings = scored.score.readings
    return [scored.score.base_reward, *(readings[name].score for name in sorted(readings))]
