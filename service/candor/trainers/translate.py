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
from candor.trainers.contract import AnswerBytes, Contract, ContractAnswer, Flat, Pair, ScoreCall
from candor.trainers.fields import MAX_FIELDS
from candor.trainers.options import TrainerRoutes

Outcome = tuple[list[dict[str, Any]], list[dict[str, Any]], str | None]
"""What a route answers of each response, in order; the warnings; and the hash of the probes that
answered, where something was scored."""

PENALTY_APART = {
    "type": "penalty_apart",
    "message": "this server's reward is R alone (--method advantage): a trainer that does not "
    "subtract 'advantage_penalty' from its advantages trains without a penalty",
}
"""Beside every reward of a trainer's route under `--method advantage`."""


def understand(content: bytes, contracts: Sequence[Contract[Any]]) -> tuple[Contract[Any], Any]:
    """Finds the contract that fits a body, and validates the body.

    Raises:
        InvalidRequest: the body is not a JSON object, fits no contract, has a field of the wrong
            type, or has a field that the contract does not know or cannot honour.
    """
    refuse_many_objects(content)
    try:
        loaded = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(loaded, dict):
        raise InvalidRequest("the body must be a JSON object")
    if len(loaded) > MAX_FIELDS:
        raise InvalidRequest(f"the body has {len(loaded)} fields; no route takes {MAX_FIELDS}")
    loaded = {name: value for name, value in loaded.items() if value is not None}
    contract = next((each for each in contracts if each.fits(loaded)), None)
    if contract is None:
        raise InvalidRequest(
            "send " + "; or ".join(needed_fields(contract) for contract in contracts)
        )
    try:
        return contract, contract.body.model_validate(loaded)
    except ValidationError as error:
        fault = first_fault_as_error(error)
        if fault.message.endswith(": unknown field"):
            fault = InvalidRequest(
                f"{fault.message} in a body of {contract.client}; leave it out, because a field "
                "that the server does not know could change the reward. docs/trainers/fields.md "
                "lists the fields of each route"
            )
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


def write_answer(contract: Contract[Any], body: Any, scored: ContractAnswer) -> AnswerBytes:
    """The answer's bytes.

    Raises:
        InvalidRequest: the form that the body asks for cannot hold the rewards.
    """
    try:
        answer = contract.write(body, scored)
        return answer if isinstance(answer, AnswerBytes) else AnswerBytes(orjson.dumps(answer))
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


async def score_responses(
    rewarder: Rewarder, call: ScoreCall, settings: TrainerRoutes, deadline: float
) -> Outcome:
    """Scores every response, in order: `ResponseReward`s as dicts, and the answer's warnings. An
    empty call gives empty lists.

    Raises:
        CandorError: `item` is the index of the text and `response` that of its response, if the
            error concerns one response.
    """
    check_expectations(rewarder, call)
    texts = await decode_token_ids(rewarder, call.texts)
    # A probe reads the response alone; and a text without the template that the model has is not
    # what the model was trained on.
    spans_needed = bool(rewarder.served.everything or rewarder.marks.header)
    groups: list[Group] = []
    sources: list[tuple[int, int]] = []
    """For each group: the number of its text, and the number of its first response there."""
    found = await groups_of(texts, rewarder, settings, spans_needed=spans_needed)
    for number, of_text in enumerate(found):
        first = 0
        for group in of_text:
            groups.append(group)
            sources.append((number, first))
            first += len(group.responses)
    if not groups:
        return [], [], None
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
    apart = [PENALTY_APART] if "advantage" in answer["model"]["methods"].values() else []
    return responses, answer["warnings"] + apart, answer["model"]["probes_sha256"]


async def tokens_of(
    rewarder: Rewarder, call: ScoreCall, settings: TrainerRoutes, deadline: float
) -> Outcome:
    """The tokens that scoring would read, of every response. Nothing is scored.

    Raises:
        CandorError: as `score_responses`.
    """
    check_expectations(rewarder, call)
    found = await groups_of(call.texts, rewarder, settings, spans_needed=False)
    groups = [group for of_text in found for group in of_text]
    truncation = call.truncation or settings.truncation
    request = ScoringRequest(
        tuple(groups), truncation=truncation, empty_response=settings.empty_response
    )
    items = await rewarder.encode(request, deadline)
    return (
        [{"token_ids": item.token_ids, "num_tokens": item.num_tokens} for item in items],
        [],
        None,
    )


def check_expectations(rewarder: Rewarder, call: ScoreCall) -> None:
    """Checks that the server makes the texts that the body expects.

    Raises:
        InvalidRequest: the body sends another chat template, or asks for another number of BOS
            tokens than the one that every text gets.
    """
    if call.chat_template not in (None, rewarder.model.tokenizer.chat_template):
        raise InvalidRequest(
            "'chat_template' is not the served model's template, which is part of its reward; "
            "leave it out, or send the templated text as 'input'"
        )
    marks, wanted = rewarder.marks, call.special_tokens
    for number, text in enumerate(call.texts):
        if isinstance(text, Pair):
            if wanted and marks.adds_bos and marks.writes_bos:
                raise InvalidRequest(
                    "'add_special_tokens': true would write a second BOS before these messages; "
                    "leave the field out",
                    item=number,
                )
        elif (
            wanted is False
            and isinstance(text.text, str)
            and (marks.adds_bos or marks.writes_bos)
            and not text.text.startswith(marks.bos)
        ):
            raise InvalidRequest(
                "'add_special_tokens': false, but this text has no BOS, and the server gives every "
                "text one; leave the field out",
                item=number,
            )


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


async def groups_of(
    texts: Sequence[Flat | Pair],
    rewarder: Rewarder,
    settings: TrainerRoutes,
    *,
    spans_needed: bool,
) -> list[list[Group]]:
    """`to_groups` of each text, off the event loop: megabytes of end marks take seconds to read."""
    steps = (
        to_groups(text, number, rewarder, settings, spans_needed=spans_needed)
        for number, text in enumerate(texts)
    )
    return await rewarder.in_steps(steps, max(map(num_characters, texts), default=0))


def num_characters(text: Flat | Pair) -> int:
    """Characters that `to_groups` reads: a context of plain text is read with every response."""
    if isinstance(text, Flat):
        return len(text.text)
    context = len(text.context) if isinstance(text.context, str) else 0
    return sum(context + len(response) for response in text.responses if isinstance(response, str))


def to_groups(
    text: Flat | Pair,
    number: int,
    rewarder: Rewarder,
    settings: TrainerRoutes,
    *,
    spans_needed: bool,
) -> list[Group]:
    """The groups of one text.

    Args:
        spans_needed: whether a text is refused if its response cannot be found. Else it is taken
            unchanged, all of it as the response.
    """
    marks, marker = rewarder.marks, settings.turn_marker
    try:
        if isinstance(text, Pair):
            return turns.from_pair(text.context, text.responses, marks, marker=marker)
        assert isinstance(text.text, str)
        return [turns.split(text.text, marks, prompt=text.prompt, marker=marker)]
    except InvalidRequest as error:
        if isinstance(text, Pair) or spans_needed:
            raise error.at(number) from None
        assert isinstance(text.text, str)
        return [turns.as_is("", text.text)]
