"""From a contract's body to a `ScoringRequest`, and back to the scored responses.

This module knows no particular client and computes no numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from candor.errors import InvalidRequest
from candor.invalid import first_fault_as_error, refuse_many_objects
from candor.scoring.rewarder import Rewarder
from candor.text import turns
from candor.text.request import Group, ScoringRequest
from candor.trainers.contract import Contract, Flat, Pair, ScoreCall
from candor.trainers.options import TrainerRoutes


def understand(content: bytes, contracts: Sequence[Contract[Any]]) -> tuple[Contract[Any], Any]:
    """Finds the contract that fits a body, and validates the body.

    Raises:
        InvalidRequest: the body is not a JSON object, fits no contract, or has a field of the wrong
            type.
    """
    refuse_many_objects(content)
    try:
        loaded = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(loaded, dict):
        raise InvalidRequest("the body must be a JSON object")
    contract = next((each for each in contracts if each.fits(loaded)), None)
    if contract is None:
        raise InvalidRequest(
            "send " + "; or ".join(needed_fields(contract) for contract in contracts)
        )
    try:
        return contract, contract.body.model_validate(loaded)
    except ValidationError as error:
        fault = first_fault_as_error(error)
    raise fault


def needed_fields(contract: Contract[Any]) -> str:
    """The fields that a contract needs, such as `'query' (OpenRLHF)`."""
    ways = [contract.needs, *([contract.or_needs] if contract.or_needs else [])]
    fields = " or ".join(" and ".join(f"'{name}'" for name in sorted(way)) for way in ways)
    return f"{fields} ({contract.client})"


def read_call(contract: Contract[Any], body: Any) -> ScoreCall:
    """The texts that the body asks to score.

    Raises:
        InvalidRequest: the contract cannot honour the body.
    """
    try:
        call: ScoreCall = contract.read(body)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return call


async def score_responses(
    rewarder: Rewarder, call: ScoreCall, settings: TrainerRoutes, deadline: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Scores every response, in order: `ResponseReward`s as dicts, and the answer's warnings. An
    empty call gives empty lists.

    Raises:
        CandorError: `item` is the index of the text and `response` that of its response, if the
            error concerns one response.
    """
    texts = await decode_token_ids(rewarder, call.texts)
    groups: list[Group] = []
    sources: list[tuple[int, int]] = []
    """For each group: the number of its text, and the number of its first response there."""
    for number, text in enumerate(texts):
        first = 0
        for group in to_groups(text, number, rewarder, settings):
            groups.append(group)
            sources.append((number, first))
            first += len(group.responses)
    if not groups:
        return [], []
    truncation = call.truncation or settings.truncation
    request = ScoringRequest(
        tuple(groups), truncation=truncation, empty_response=settings.empty_response
    )
    try:
        answer = await rewarder.answer(request, deadline)
    except InvalidRequest as error:
        if error.item is None:
            raise
        number, first = sources[error.item]
        raise error.at(number, first + (error.response or 0)) from None
    responses = [response for result in answer["results"] for response in result["responses"]]
    return responses, answer["warnings"]


async def decode_token_ids(rewarder: Rewarder, texts: Sequence[Flat | Pair]) -> list[Flat | Pair]:
    """The same texts, with token ids decoded by the model's own tokeniser."""
    ids = [text.text for text in texts if isinstance(text, Flat) and isinstance(text.text, list)]
    if not ids:
        return list(texts)
    decoded: Iterator[str] = iter(await rewarder.decode(ids))
    return [
        Flat(next(decoded), text.prompt)
        if isinstance(text, Flat) and isinstance(text.text, list)
        else text
        for text in texts
    ]


def to_groups(
    text: Flat | Pair, number: int, rewarder: Rewarder, settings: TrainerRoutes
) -> list[Group]:
    """The groups of one text.

    A server without probes and without a chat template does not need the span of the response: if
    the response cannot be found, it scores the text unchanged. With a template it does not, because
    a text without the template is not what the model was trained on.
    """
    marks, marker = rewarder.marks, settings.turn_marker
    if isinstance(text, Pair):
        return turns.from_pair(text.context, text.responses, marks, marker=marker)
    assert isinstance(text.text, str)
    try:
        return [turns.split(text.text, marks, prompt=text.prompt, marker=marker)]
    except InvalidRequest as error:
        if rewarder.served.everything or marks.header:
            raise error.at(number) from None
        return [turns.as_is("", text.text)]
