"""The request path without HTTP: a `ScoringRequest` in, the answer out, as bytes or as dicts.

    resolve penalties -> encode (tokeniser thread) -> batcher -> compose -> answer

Every invalid request is refused before the queue. Monitors are scored and recorded here, and are
never in the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import orjson
import structlog

from candor.batching.batcher import Batcher
from candor.errors import CandorError
from candor.item import Engine, Item, Reading, Score, Scored
from candor.labels.book import LabelBook
from candor.labels.windows import DEFAULT_WINDOW
from candor.models.load import RewardModel
from candor.probes.artifact import LoadedProbe
from candor.probes.combine import Combination
from candor.scoring.answer import ScoredResponse, answer
from candor.scoring.compose import SUM, Term, compose_groups, formula, resolve
from candor.scoring.served import LiveProbes, Served, ServedProbe
from candor.text.conversation import encode_each
from candor.text.lanes import LONG_CHARS, Lanes
from candor.text.render import Renderer
from candor.text.request import Group, ScoringRequest
from candor.watch.drift import Drift
from candor.watch.metrics import Metrics

T = TypeVar("T")

RECORDS_PER_TURN = 256
"""Responses that are recorded before the event loop's other tasks run: some ten milliseconds."""

log = structlog.get_logger(__name__)


class Rewarder:
    """Scores whole requests on one loaded model.

    Args:
        model: the loaded model. Only its metadata is used here; the engine uses the weights.
        engine: runs the batches that `batcher` forms.
        served: every loaded probe.
        model_id: the model's name in answers; by default the model's own.
        combination: how the terms of several probes become one penalty.
        drift: records every answered response; None records nothing.
        labels: the judged rows; by default a book that is kept in memory.
        as_served: how a probe that replaces another is used; by default with lambda 0.
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
        labels: LabelBook | None = None,
        as_served: Callable[[LoadedProbe], ServedProbe] = lambda probe: ServedProbe(probe, 0.0),
    ) -> None:
        self.model = model
        self.model_id = model_id or model.id
        self.live = LiveProbes(served, engine)
        self.combination = combination
        self.drift = drift
        self.labels = labels or LabelBook(served.all_versions(), DEFAULT_WINDOW)
        self.as_served = as_served
        self.batcher = batcher
        self.marks = renderer.marks()
        self._engine = engine
        self._renderer = renderer
        self._metrics = metrics
        self._lanes = Lanes()
        self._warned: set[str] = set()

    @property
    def served(self) -> Served:
        """The probes that a request which begins now is scored by."""
        return self.live.now

    @property
    def engine_name(self) -> str:
        """The answer's `model.engine`."""
        return self._engine.name

    @property
    def engine_reason(self) -> str:
        """Why this engine runs."""
        return self._engine.reason

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
        with self.live.held() as served:
            penalties = resolve(served, request.penalties)
            places = request.places()
            items, scored = await self._scored(request, places, served, deadline)
            rewards = compose_groups(
                places, [response.score for response in scored], penalties, self.combination
            )
            replies = (request.groups[group].responses[number] for group, number in places)
            responses = [
                ScoredResponse(*parts)
                for parts in zip(places, replies, items, scored, rewards, strict=True)
            ]
            await self._record(responses, served)
            answered = answer(responses, self._model_info(penalties, served))
        self._warn(answered["warnings"])
        return answered

    async def scores(self, request: ScoringRequest, deadline: float) -> tuple[Served, list[Score]]:
        """R and every S of every response, in order, monitors included, and the set of probes that
        read them. Nothing is recorded: for rows that were answered before.

        Raises:
            CandorError: as `answer`.
        """
        with self.live.held() as served:
            _, scored = await self._scored(request, request.places(), served, deadline)
        return served, [response.score for response in scored]

    async def raw_scores(
        self, groups: Sequence[Group], timeout_s: float, served: Served | None = None
    ) -> Mapping[str, float]:
        """R and every S of every response, monitors included, by a name that is the probe's and its
        version's. The sentinel compares them.

        Args:
            served: a set of probes that is held; by default the set that is served.
        """
        deadline = time.monotonic() + timeout_s
        with self.live.held(served) as probes:
            items = await self._encode(ScoringRequest(tuple(groups)), deadline)
            scored = await self.batcher.submit(items, deadline=deadline, first=True)
        found: dict[str, float] = {}
        for number, response in enumerate(scored):
            found[f"R {number}"] = response.score.base_reward
            for name, reading in probes.pick(response).score.readings.items():
                found[f"{probes.everything[name].column or name} {number}"] = reading.score
        return found

    async def encode(self, request: ScoringRequest, deadline: float) -> list[Item]:
        """Every response of the request as the engine would get it. Nothing is scored.

        Args:
            deadline: `time.monotonic()` seconds.

        Raises:
            CandorError: as `answer`.
        """
        return await self._encode(request, deadline)

    async def decode(self, token_ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of token ids.

        Raises:
            InvalidRequest: the tokeniser has no such id; `item` is the index of the list.
        """

        def decode_each() -> Iterator[str]:
            for number, ids in enumerate(token_ids):
                try:
                    yield self._renderer.decode(ids)
                except CandorError as error:
                    raise error.at(number) from None

        return await self.in_steps(decode_each(), max(map(len, token_ids), default=0))

    async def in_steps(self, steps: Iterator[T], longest: int) -> list[T]:
        """The outcomes of `steps`, made in another thread in turns with other requests.

        Args:
            longest: characters (or tokens) of the longest text that one step works on.
        """
        return await self._lanes.run(steps, longest)

    async def read(self, body: bytes, parse: Callable[[bytes], T]) -> T:
        """`parse(body)`. A large body is parsed in another thread, so that the loop stays free."""
        if len(body) <= LONG_CHARS:
            return parse(body)
        (parsed,) = await self._lanes.run((parse(body) for _ in range(1)), len(body))
        return parsed

    def forget(self) -> None:
        """Drops all results that a later forward would reuse."""
        self._engine.forget()

    def close(self) -> None:
        """Ends the threads. Nothing may be submitted afterwards."""
        self._lanes.close()
        self.batcher.close()
        self._engine.close()

    async def _encode(self, request: ScoringRequest, deadline: float) -> list[Item]:
        """Every response of the request as an `Item`, in order."""
        began = time.monotonic()
        longest = max(map(_longest_text, request.groups))
        items = await self._lanes.run(
            encode_each(self._renderer.wording, request, deadline), longest
        )
        self._metrics.stage_s.labels("tokenise").observe(time.monotonic() - began)
        return items

    async def _scored(
        self,
        request: ScoringRequest,
        places: Sequence[tuple[int, int]],
        served: Served,
        deadline: float,
    ) -> tuple[list[Item], list[Scored]]:
        """Every response as an `Item` and its score by the probes of `served`, in order."""
        items = await self._encode(request, deadline)
        scored = [
            _without_readings(response, served) if item.is_empty else served.pick(response)
            for item, response in zip(
                items, await self._submit(items, places, deadline), strict=True
            )
        ]
        return items, scored

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

    def _model_info(self, penalties: Sequence[Term], served: Served) -> dict[str, Any]:
        return {
            "id": self.model_id,
            "revision": self.model.weights_sha256,
            "engine": self.engine_name,
            "formula": formula(penalties, self.combination),
            "combine": asdict(self.combination),
            "methods": served.methods,
            "probes_sha256": served.sha256,
            "probes": served.versions(),
        }

    def _warn(self, warnings: Sequence[Mapping[str, Any]]) -> None:
        """Counts warnings, and logs the first of each type: a trainer may not look at them."""
        for warning in warnings:
            kind = warning["type"]
            self._metrics.warnings.labels(kind).inc()
            if kind not in self._warned:
                self._warned.add(kind)
                log.warning("scored_with_a_warning", type=kind, message=warning["message"])

    async def _record(self, responses: Sequence[ScoredResponse], served: Served) -> None:
        """Records the responses for metrics and drift, and lets other callers in between."""
        for number, response in enumerate(responses, start=1):
            if number % RECORDS_PER_TURN == 0:
                await asyncio.sleep(0)
            score, item = response.scored.score, response.item
            if item.is_empty:
                score = Score(score.base_reward)
            self._metrics.on_response(score, response.composed.reward)
            if self.drift is not None and not item.is_empty:
                self.drift.record(self._current(score, served), _length(item))

    def _current(self, score: Score, served: Served) -> Score:
        """The score without the readings of probes that have been replaced since the request
        began."""
        if served is self.served:
            return score
        now = self.served.everything
        kept = {
            name: reading
            for name, reading in score.readings.items()
            if served.everything[name] is now[name]
        }
        return replace(score, readings=kept)


def _longest_text(group: Group) -> int:
    """Characters of a group's context and its longest response."""
    return group.context.num_chars + max(
        len(reply) if isinstance(reply, str) else reply.num_chars for reply in group.responses
    )


def _length(item: Item) -> int:
    """Tokens of the response."""
    return item.response_end - item.response_start


def _without_readings(scored: Scored, served: Served) -> Scored:
    """The same R, without what the probes read at the end of an empty turn."""
    readings = {
        name: Reading(neutral, neutral, neutral)
        for name, probe in served.everything.items()
        for neutral in (probe.neutral,)
    }
    return replace(scored, score=Score(scored.score.base_reward, readings, is_empty=True))
