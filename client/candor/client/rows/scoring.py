"""Scores one context's responses, and says which failures a response is to blame for."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from candor.client.errors import ClientError, PermanentError, RewardError
from candor.client.reward import AsyncRewardClient
from candor.client.rows.forms import Reply, Unscorable
from candor.client.schema import RewardResponse
from candor.client.wire import EmptyResponse, Include, Truncation

MISUSE = 400
TOO_LARGE = 413
SERVER_BUG = 500
TEMPLATE_REFUSED = "invalid_messages"
"""The server's name for messages that the reward model's template refuses or leaves out."""


async def score_item(
    client: AsyncRewardClient,
    item: Mapping[str, Any],
    texts: Sequence[Reply],
    penalties: Mapping[str, Mapping[str, Any]],
    *,
    include: Include = (),
    truncation: Truncation = "error",
    empty_response: EmptyResponse = "error",
    unsent: Collection[int] = (),
) -> tuple[RewardResponse | None, dict[int, ClientError]]:
    """Score one context's responses, those that the server refuses left out.

    The server answers a request whole or not at all, so it is asked again without each response
    that it refuses: at most one request per response.

    Args:
        item: the context, as on the wire.
        include: what the reply is to hold beside the scores: `tokens`, `text`.
        unsent: indexes of the texts that are not to be scored.

    Returns:
        The reply for the responses that could be scored (None when there are none), and the error
        of each other response by its index in `texts`.

    Raises:
        ClientError: an error that is not about the responses (see `blames_row`).
        ValueError: the arguments; nothing was sent.
    """
    failed: dict[int, ClientError] = {}
    while True:
        places = [n for n in range(len(texts)) if n not in failed and n not in unsent]
        if not places:
            return None, failed
        request = {**item, "responses": [texts[place] for place in places]}
        try:
            reply = await client.rewards([request], penalties, include, truncation, empty_response)
            return reply, failed
        except PermanentError as error:
            if not blames_row(error):
                raise
            refused = refused_places(error, places, texts)
            if error.response is not None:
                error.response = refused[0]  # counted in `texts`, for the message
            failed |= dict.fromkeys(refused, error)


def blames_row(error: ClientError) -> bool:
    """Whether the failure is about what was sent, and other rows can still be scored: the row has
    no text to send, or the server names the item that it refuses, or the body is too large."""
    if isinstance(error, PermanentError):
        return error.item is not None or error.status == TOO_LARGE
    return isinstance(error, Unscorable)


def is_surely_of_row(error: RewardError, with_tools: bool = False) -> bool:
    """Whether the refusal is about a text and not about how the server is asked. A 400 (a prompt
    without the template, an unknown field), a server error, or a template that does not take what
    was sent `with_tools` may be either, and so may a proxy's refusal: where no row of a call has a
    reward, it is the call's."""
    if with_tools and error.type == TEMPLATE_REFUSED:
        return False
    if error.type.startswith("http_"):  # no words of Candor's: a proxy's answer, such as its limit
        return False
    return error.status not in (MISUSE, SERVER_BUG) or error.type == "engine_failed"


def refused_places(
    error: PermanentError, places: Sequence[int], texts: Sequence[Reply]
) -> Sequence[int]:
    """Those of `places` that the error is about: the response that it names; the longest, where the
    body is too large; or all."""
    if error.item is None:
        return [max(places, key=lambda place: len(json.dumps(texts[place])))]
    number = error.response
    return places if number is None else places[number : number + 1] or places
