"""Finds the response in flat templated text, such as OpenRLHF's `query` and verl's `input`.

Such a text is the policy's whole conversation with every special token written out. A probe reads
the response alone, so the start of the response must be known. It is found from the first of these
that is there: the prompt, if the body has it; the header that the served chat template writes
before an assistant's turn; `--turn-marker`. Without any of them the request is refused, because a
guessed span would give an invented penalty.

Text that holds an assistant turn of the served template is scored as the same conversation would be
on `/v1/rewards`: one BOS if the template has one, no pads, and the template's own ending. Other
text is scored unchanged, except that pads and a doubled BOS are removed. This module handles
strings only; `writing.py` applies the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from candor.errors import InvalidRequest
from candor.text.marks import Marks, ends_in_a_header
from candor.text.request import ChatMessage, Group, Messages, OpenTurn, Reply, Text


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
        return Group(OpenTurn(before), (_reply(rest[at + len(marks.header) :], marks),))
    if length is not None and marks.header and not (marker and marker in start):
        _refuse_other_template(start, marks)
        context = Messages((ChatMessage("user", start),))
        return from_messages(context, [rest[length:]], marks)
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
    groups = [split(context + response, marks, prompt=context, marker=marker) for response in texts]
    templated = all(isinstance(group.context, OpenTurn) for group in groups)
    if templated or not marks.header or (marker and context.endswith(marker)):
        return groups
    _refuse_other_template(context, marks)
    return [from_messages(Messages((ChatMessage("user", context),)), responses, marks)]


def from_messages(context: Messages, responses: Sequence[Reply], marks: Marks) -> Group:
    """A conversation and what a policy wrote after it, without the marks that the template writes
    around a reply."""
    return Group(
        replace(context, is_policys=True),
        tuple(
            _reply(response, marks) if isinstance(response, str) else response
            for response in responses
        ),
    )


def as_is(prompt: str, response: str) -> Group:
    """A group of one response, scored unchanged."""
    return Group(Text(prompt), (response,))


def without_end(response: str, marks: Marks) -> str:
    """The response without the end tokens and pads behind it, and without the white space between
    those. The response's own white space stays.

    Any token of a turn's end is an end: where the template writes `<|end|>` and `<|endoftext|>`, a
    policy may stop after the first.
    """
    end = len(response)
    while True:
        tail = end
        while tail and response[tail - 1].isspace():  # no copy: there may be a million marks
            tail -= 1
        found = next((mark for mark in marks.fillers if response.endswith(mark, 0, tail)), None)
        if found is None:
            return response[:end]
        end = tail - len(found)


def _reply(text: str, marks: Marks) -> str:
    """A reply without its end, and without what the template writes before every reply."""
    return without_end(text.removeprefix(marks.opening), marks)


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
        return _first_channel(text, at, marks) if at >= 0 else None
    at = text.rfind(marks.header, 0, prompt_length - 1 + len(marks.header))
    if at < 0:
        return None
    prefill = text[at + len(marks.header) : prompt_length]
    ends = [mark for mark in (marks.end, *marks.ends) if mark]
    ended = any(mark in prefill for mark in ends) if ends else bool(prefill.strip())
    return None if ended else at


def _first_channel(text: str, at: int, marks: Marks) -> int:
    """Index of the first header of the reply whose last header is at `at`: gpt-oss writes its
    reasoning and its answer as two messages, each with a header."""
    while marks.channel:
        earlier = text.rfind(marks.header, 0, at)
        message = text[earlier + len(marks.header) : at]
        is_own = message.startswith(marks.channel)
        if earlier < 0 or not is_own or any(mark in message for mark in marks.header_tokens):
            break
        at = earlier
    return at


def _refuse_other_template(prompt: str, marks: Marks) -> None:
    """Refuses a prompt that is in a template, but not in the served one. As the words of a user it
    would be another text.

    Raises:
        InvalidRequest: the prompt's last turn is another template's.
    """
    if marks.header.strip() in prompt or ends_in_a_header(prompt):
        raise InvalidRequest(
            "the prompt ends in a turn of another chat template than the model's: send messages, "
            "or start the server with --turn-marker TEXT, the text that stands before the response"
        )


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
