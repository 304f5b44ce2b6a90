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

from candor.errors import InvalidRequest
from candor.text.request import ChatMessage, Group, Messages, OpenTurn, Text


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


def split(
    text: str, marks: Marks, *, prompt: str | None = None, marker: str | None = None
) -> Group:
    """The context and the response that a flat text holds.

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
        return Group(OpenTurn(before), (response,))
    if length is None and marker and marker in rest:
        length = rest.rindex(marker) + len(marker)
    if length is None:
        raise InvalidRequest(_unknown_span(marks, said_prompt=bool(prompt)))
    response = without_end(rest[length:], marks)
    if marks.eos and marks.eos in rest[length + len(response) :]:
        response += marks.eos
    return as_is((marks.bos if had_bos else "") + rest[:length], response)


def from_pair(
    context: str | Messages,
    responses: Sequence[str],
    marks: Marks,
    *,
    marker: str | None = None,
) -> list[Group]:
    """The groups of a context and its responses, given apart. The order of the responses stays.

    A text that ends in the served template's turn, or in `marker`, is templated already. Any other
    text is what a user said, or, where there is no template, text to be continued.
    """
    if isinstance(context, Messages):
        return [from_messages(context, responses, marks)]
    if not context:
        return [as_is("", response) for response in responses]
    groups = [split(context + response, marks, prompt=context) for response in responses]
    templated = all(isinstance(group.context, OpenTurn) for group in groups)
    if templated or not marks.header or (marker and context.endswith(marker)):
        return groups
    return [from_messages(Messages((ChatMessage("user", context),)), responses, marks)]


def from_messages(context: Messages, responses: Sequence[str], marks: Marks) -> Group:
    """The responses to a conversation, without the end tokens that a policy writes."""
    return Group(context, tuple(without_end(response, marks) for response in responses))


def as_is(prompt: str, response: str) -> Group:
    """Text that is scored as it is."""
    return Group(Text(prompt), (response,))


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
