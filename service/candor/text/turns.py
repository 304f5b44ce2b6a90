"""Where the response lies in flat templated text: OpenRLHF's `query`, verl's `input` and the like.

Such a text is the policy's whole conversation with every special token written out. A probe reads
the response alone, so its beginning must be known: from the prompt, where that came too; else from
what the served chat template writes before an assistant's turn; else from `--turn-marker`. If none
of these tells, the request is refused: a guessed span would be an invented penalty.

Text that holds the served template's turn is scored as the same conversation would be on
`/v1/rewards`: one BOS where the template has one, no pads, the turn ended as the template ends it.
Other text is scored as it is, but for pads and doubled BOS. Pure strings: the template itself is
`render.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from candor.client.schema import Message, RewardItem
from candor.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Marks:
    """What a tokeniser and its chat template write around turns; "" for what they do not."""

    header: str = ""
    """Between the last turn's content and the assistant's: `<|im_end|>\\n<|im_start|>assistant\\n`.
    "" also where there is no template."""
    end: str = ""
    """After the assistant's content, without white space: `<|im_end|>`."""
    bos: str = ""
    writes_bos: bool = False
    """The template's text begins with `bos`."""
    eos: str = ""
    pad: str = ""


class OpenTurnItem(RewardItem):
    """`prompt` is templated text up to the end of the last turn before the assistant's; the served
    template writes what follows: that turn's end, and the response's turn."""


def split(
    text: str, marks: Marks, *, prompt: str | None = None, marker: str | None = None
) -> RewardItem:
    """The item that a flat text is.

    Args:
        text: prompt and response, templated.
        prompt: what `text` begins with, if the caller said; used only if it does.
        marker: what stands before the response in text of another template.

    Raises:
        InvalidRequest: nothing tells where the response begins.
    """
    rest, had_bos = _without_start(text, marks)
    known = _without_start(prompt, marks)[0] if prompt else ""
    length = len(known) if known and rest.startswith(known) else None
    at = _find_turn(rest, marks, length)
    if at is not None:
        before = (marks.bos if marks.writes_bos else "") + rest[:at]
        response = without_end(rest[at + len(marks.header) :], marks)
        return OpenTurnItem.model_construct(prompt=before, messages=None, responses=[response])
    if length is None and marker and marker in rest:
        length = rest.rindex(marker) + len(marker)
    if length is None:
        raise InvalidRequest(_unknown_span(marks, said_prompt=bool(prompt)))
    response = without_end(rest[length:], marks)
    if marks.eos and marks.eos in rest[length + len(response) :]:
        response += marks.eos
    return raw((marks.bos if had_bos else "") + rest[:length], response)


def pair(
    context: str | list[Message],
    responses: Sequence[str],
    marks: Marks,
    *,
    marker: str | None = None,
) -> list[RewardItem]:
    """The items of one context and its responses, given apart, in order.

    A text that ends in the served template's turn, or in `marker`, is templated already; any other
    is what a user said, and, where there is no template, text to be continued.
    """
    if isinstance(context, list):
        return [said(context, [without_end(response, marks) for response in responses])]
    if not context:
        return [raw("", response) for response in responses]
    items = [split(context + response, marks, prompt=context) for response in responses]
    templated = all(isinstance(item, OpenTurnItem) for item in items)
    if templated or not marks.header or (marker and context.endswith(marker)):
        return items
    user = Message.model_construct(role="user", content=context)
    return [said([user], [without_end(response, marks) for response in responses])]


def raw(prompt: str, response: str) -> RewardItem:
    """An item whose text is scored as it is."""
    return RewardItem.model_construct(prompt=prompt, messages=None, responses=[response])


def said(messages: list[Message], responses: list[str]) -> RewardItem:
    """An item in messages."""
    return RewardItem.model_construct(prompt=None, messages=messages, responses=responses)


def without_end(response: str, marks: Marks) -> str:
    """The response without the end tokens and pads behind it, and without white space between
    them; white space of its own stays."""
    fillers = tuple(mark for mark in (marks.end, marks.eos, marks.pad) if mark)
    end = len(response)
    while True:
        tail = len(response[:end].rstrip())
        found = next((mark for mark in fillers if response.endswith(mark, 0, tail)), None)
        if found is None:
            return response[:end]
        end = tail - len(found)


def _without_start(text: str, marks: Marks) -> tuple[str, bool]:
    """The text without pads and BOS in front, and whether there was a BOS."""
    fillers = [mark for mark in (marks.bos, marks.pad, marks.eos) if mark]
    at, had_bos = 0, False
    while found := next((mark for mark in fillers if text.startswith(mark, at)), None):
        had_bos = had_bos or found == marks.bos
        at += len(found)
    return text[at:], had_bos


def _find_turn(text: str, marks: Marks, prompt_length: int | None) -> int | None:
    """Where the header of the response's turn begins.

    With a prompt it must begin inside it, and only the beginning of the reply (a prefill) may stand
    between it and the prompt's end: a policy that writes a header of its own moves nothing.
    """
    if not marks.header:
        return None
    if prompt_length is None:
        at = text.rfind(marks.header)
        return at if at >= 0 else None
    at = text.rfind(marks.header, 0, prompt_length - 1 + len(marks.header))
    if at < 0:
        return None
    prefill = text[at + len(marks.header) : prompt_length]
    ended = marks.end in prefill if marks.end else bool(prefill.strip())
    return None if ended else at


def _unknown_span(marks: Marks, *, said_prompt: bool) -> str:
    why = (
        "the text holds no assistant turn of the served chat template"
        if marks.header
        else "this model has no chat template"
    )
    if said_prompt:
        why += ", and does not begin with its prompt"
    return (
        f"{why}, so where the response begins is not known: send the text with its prompt "
        "('prompts' on /get_reward, 'prompt' on /slime), or start the server with --turn-marker "
        "TEXT, the text that stands before the response"
    )
