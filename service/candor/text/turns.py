"""Finds the response in flat templated text, such as OpenRLHF's `query` and verl's `input`.

Such a text is the policy's whole conversation with every special token written out. A probe reads
the response alone, so the start of the response must be known. It is found from the first of these
that is there: the prompt, if the body has it; the header that the served chat template writes
before an assistant's turn; `--turn-marker`. Without any of them the request is refused, because a
guessed span would give an invented penalty.

Text that holds an assistant turn of the served template is scored as the same conversation would be
on `/v1/rewards`: one BOS if the template has one, no pads, and the template's own ending. Other
text is scored unchanged, except that pads and a doubled BOS are removed. This module handles
strings only; `render.py` applies the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from candor.errors import InvalidRequest
from candor.text.request import ChatMessage, Group, Messages, OpenTurn, Reply, Text


@dataclass(frozen=True, slots=True)
class Marks:
    """The texts that a tokeniser and its chat template write around turns; "" if there is none."""

    header: str = ""
    """Text between the content of the last turn and of the assistant's turn:
    `<|im_end|>\\n<|im_start|>assistant\\n`. "" also if the model has no template."""
    end: str = ""
    """Text after the assistant's content, without white space: `<|im_end|>`."""
    bos: str = ""
    writes_bos: bool = False
    """Whether the template's text begins with `bos`."""
    eos: str = ""
    pad: str = ""


def split(
    text: str, marks: Marks, *, prompt: str | None = None, marker: str | None = None
) -> Group:
    """The context and the response that a flat text holds.

    Args:
        text: prompt and response, templated.
        prompt: the start of `text`, if the caller sent it. Ignored if `text` begins otherwise.
        marker: text that stands before the response where another template was used.

    Raises:
        InvalidRequest: the start of the response cannot be found.
    """
    rest, had_bos = _without_start(text, marks)
    start = _without_start(prompt, marks)[0] if prompt else ""
    length = len(start) if start and rest.startswith(start) else None
    at = _find_turn(rest, marks, length)
    if at is not None:
        before = (marks.bos if marks.writes_bos else "") + rest[:at]
        response = without_end(rest[at + len(marks.header) :], marks)
        return Group(OpenTurn(before), (response,))
    if length is None and marker and marker in rest:
        length = rest.rindex(marker) + len(marker)
    if length is None:
        raise InvalidRequest(_unknown_span(marks, has_prompt=bool(prompt)))
    response = without_end(rest[length:], marks)
    if marks.eos and marks.eos in rest[length + len(response) :]:
        response += marks.eos
    return as_is((marks.bos if had_bos else "") + rest[:length], response)


def from_pair(
    context: str | Messages,
    responses: Sequence[Reply],
    marks: Marks,
    *,
    marker: str | None = None,
) -> list[Group]:
    """The groups of a context and its responses, sent as separate fields. The order is kept.

    A text that ends in the served template's header, or in `marker`, counts as templated. Any other
    text is a user's message or, if the model has no template, text to be continued.
    """
    if isinstance(context, Messages):
        return [from_messages(context, responses, marks)]
    texts = [response for response in responses if isinstance(response, str)]
    if len(texts) < len(responses):
        raise InvalidRequest("a response that is a message needs a context of messages")
    if not context:
        return [as_is("", response) for response in texts]
    groups = [split(context + response, marks, prompt=context) for response in texts]
    templated = all(isinstance(group.context, OpenTurn) for group in groups)
    if templated or not marks.header or (marker and context.endswith(marker)):
        return groups
    return [from_messages(Messages((ChatMessage("user", context),)), responses, marks)]


def from_messages(context: Messages, responses: Sequence[Reply], marks: Marks) -> Group:
    """A conversation and its responses, without the end tokens that a policy writes."""
    return Group(
        context,
        tuple(
            without_end(response, marks) if isinstance(response, str) else response
            for response in responses
        ),
    )


def as_is(prompt: str, response: str) -> Group:
    """A group of one response, scored unchanged."""
    return Group(Text(prompt), (response,))


def without_end(response: str, marks: Marks) -> str:
    """The response without the end tokens and pads behind it, and without the white space between
    those. The response's own white space stays."""
    fillers = tuple(mark for mark in (marks.end, marks.eos, marks.pad) if mark)
    end = len(response)
    while True:
        tail = len(response[:end].rstrip())
        found = next((mark for mark in fillers if response.endswith(mark, 0, tail)), None)
        if found is None:
            return response[:end]
        end = tail - len(found)


def _without_start(text: str, marks: Marks) -> tuple[str, bool]:
    """The text without leading pads and BOS, and whether there was a BOS."""
    fillers = [mark for mark in (marks.bos, marks.pad, marks.eos) if mark]
    at, had_bos = 0, False
    while found := next((mark for mark in fillers if text.startswith(mark, at)), None):
        had_bos = had_bos or found == marks.bos
        at += len(found)
    return text[at:], had_bos


def _find_turn(text: str, marks: Marks, prompt_length: int | None) -> int | None:
    """Index at which the header of the response's turn begins, or None.

    If the prompt is known, the header must begin inside the prompt, and only a prefill (the start
    of the reply) may follow it there. So a header that the policy writes itself has no effect.
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


def _unknown_span(marks: Marks, *, has_prompt: bool) -> str:
    """The message for a text whose response cannot be found."""
    why = (
        "the text holds no assistant turn of the served chat template"
        if marks.header
        else "this model has no chat template"
    )
    if has_prompt:
        why += ", and does not begin with its prompt"
    return (
        f"{why}, so the start of the response cannot be found: send the text with its prompt "
        "('prompts' on /get_reward, 'prompt' on /slime), or start the server with --turn-marker "
        "TEXT, the text that stands before the response"
    )
