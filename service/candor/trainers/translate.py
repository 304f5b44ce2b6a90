"""From a contract's body to the items of a `RewardRequest`, and from its answer to what was scored.

Nothing here knows a client; nothing here computes a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from candor.client.schema import RewardItem, RewardRequest
from candor.errors import InvalidRequest
from candor.invalid import first_fault
from candor.scoring.rewarder import Rewarder
from candor.text import turns
from candor.trainers.contract import Asked, Contract, Flat, Pair
from candor.trainers.options import TrainerRoutes


def understand(content: bytes, shapes: Sequence[Contract[Any]]) -> tuple[Contract[Any], Any]:
    """The contract whose shape the body has, and the body by its types.

    Raises:
        InvalidRequest: no JSON object, no contract's shape, or a field of the wrong type.
    """
    try:
        loaded = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(loaded, dict):
        raise InvalidRequest("the body must be a JSON object")
    contract = next((shape for shape in shapes if shape.fits(loaded)), None)
    if contract is None:
        raise InvalidRequest("send " + "; or ".join(describe(shape) for shape in shapes))
    try:
        return contract, contract.body.model_validate(loaded)
    except ValidationError as error:
        fault = first_fault(error)
    raise fault


def describe(contract: Contract[Any]) -> str:
    """`'query' (OpenRLHF)`."""
    ways = [contract.needs, *([contract.or_needs] if contract.or_needs else [])]
    fields = " or ".join(" and ".join(f"'{name}'" for name in sorted(way)) for way in ways)
    return f"{fields} ({contract.client})"


def ask(contract: Contract[Any], body: Any) -> Asked:
    """`contract.read`, its faults as answers."""
    try:
        asked: Asked = contract.read(body)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return asked


async def responses(
    rewarder: Rewarder, asked: Asked, settings: TrainerRoutes, deadline: float
) -> list[dict[str, Any]]:
    """Every response scored, in the order asked: `ResponseReward`s as dicts. None for none.

    Raises:
        CandorError: `item` says which text is to blame, and `response` which of its responses.
    """
    texts = await with_text(rewarder, asked.texts)
    items: list[RewardItem] = []
    sources: list[tuple[int, int]] = []
    """For each item, the text it comes from and the number of its first response there."""
    for number, text in enumerate(texts):
        first = 0
        for item in items_of(text, number, rewarder, settings):
            items.append(item)
            sources.append((number, first))
            first += len(item.responses)
    if not items:
        return []
    request = RewardRequest.model_construct(
        items=items,
        penalties={},
        include=[],
        truncation=asked.truncation or settings.truncation,
    )
    try:
        answer = await rewarder.answer(request, deadline)
    except InvalidRequest as error:
        if error.item is None:
            raise
        number, first = sources[error.item]
        raise error.at(number, first + (error.response or 0)) from None
    return [one for result in answer["results"] for one in result["responses"]]


async def with_text(rewarder: Rewarder, texts: Sequence[Flat | Pair]) -> list[Flat | Pair]:
    """The same, token ids read as text by the model's own tokeniser."""
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


def items_of(
    text: Flat | Pair, number: int, rewarder: Rewarder, settings: TrainerRoutes
) -> list[RewardItem]:
    """The items of one text.

    Where no probe is served R is all there is, and it needs no span: then a text whose response
    cannot be found is scored as it is.
    """
    marks, marker = rewarder.marks, settings.turn_marker
    if isinstance(text, Pair):
        return turns.pair(text.context, text.responses, marks, marker=marker)
    assert isinstance(text.text, str)
    try:
        return [turns.split(text.text, marks, prompt=text.prompt, marker=marker)]
    except InvalidRequest as error:
        if rewarder.served:
            raise error.at(number) from None
        return [turns.raw("", text.text)]
