"""The forms of rows: by which fields each is known, and how it becomes a context and responses.

The table `FORMS` is searched from its top; a row has the first form whose fields it has. Data sets
are named where a form is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from candor.jobs.formats.turns import (
    Messages,
    Row,
    UnreadableRow,
    context_of_text,
    decoded,
    is_transcript,
    messages_of,
    response_of,
    same_context,
    split_last,
    transcript,
)

PAIR = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Content:
    """What a row says.

    Attributes:
        context: `messages` or `prompt`, and perhaps `tools`.
        responses: in Candor's form; None where the row is a prompt.
        used: the fields that this was read from.
    """

    context: Row
    responses: list[Row] | None
    used: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """One form of rows.

    Attributes:
        fields: those that a row of this form has, none of them null.
        fits: a further condition on the row.
    """

    name: str
    fields: tuple[str, ...]
    read: Callable[[Row], Content]
    fits: Callable[[Row], bool] = lambda row: True


def form_of(row: Row) -> Form | None:
    """The row's form; None where the row has none."""
    for form in FORMS:
        if all(_has(row, name) for name in form.fields) and form.fits(row):
            return form
    return None


def _has(row: Row, name: str) -> bool:
    """Whether a row has a field. One of chosen and rejected may be null: the other is scored."""
    if name in PAIR and name in row:
        return any(row.get(side) is not None for side in PAIR)
    return row.get(name) is not None


def _context(row: Row, field: str = "prompt") -> Row:
    """The context in a field that holds a text or messages."""
    value = decoded(row[field])
    if isinstance(value, str):
        return context_of_text(value, templated=row.get("templated") is True)
    return {"messages": messages_of(value, field)}


def _with_system(row: Row, messages: Messages) -> Messages:
    system = row.get("system") or row.get("system_prompt")
    if not isinstance(system, str) or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]


def _preferred(row: Row, chosen: str = "chosen", rejected: str = "rejected") -> list[Row]:
    sides = ((chosen, True), (rejected, False))
    return [
        {"text": None, "chosen": is_chosen}
        if row[name] is None
        else response_of(decoded(row[name]), name, chosen=is_chosen)
        for name, is_chosen in sides
    ]


def _sides(row: Row) -> tuple[Any, Any]:
    return decoded(row["chosen"]), decoded(row["rejected"])


def _are_conversations(row: Row) -> bool:
    """Whether chosen and rejected repeat the prompt: they are lists with a turn before the last."""
    return all(isinstance(side, list) and len(side) > 1 for side in _sides(row))


def _are_transcripts(row: Row) -> bool:
    return is_transcript(row["chosen"]) and is_transcript(row["rejected"])


def _are_lists_of_texts(row: Row) -> bool:
    """Whether chosen and rejected are lists of texts. In a table of texts they are encoded; there
    RewardBench 2 is known by another of its fields, because a response may be such a text."""
    always = row.get("num_correct") is not None
    sides = [decoded(row[name], always=always) for name in PAIR]
    return all(isinstance(side, list) for side in sides) and all(
        isinstance(text, str) for side in sides for text in side
    )


def preference(field: str) -> Callable[[Row], Content]:
    """Reads chosen and rejected beside the context in `field`."""

    def read(row: Row) -> Content:
        context = _context(row, field)
        responses = _preferred(row)
        if field != "messages" and is_transcript(row[field]):
            responses = [{**one, "text": (one["text"] or "").lstrip()} for one in responses]
        return Content(context, responses, (field, "chosen", "rejected"))

    return read


def conversations(row: Row) -> Content:
    """Reads chosen and rejected that are whole conversations; a `prompt` beside them is in both."""
    split = [split_last(messages_of(row[name], name), name) for name in PAIR]
    context = same_context([before for before, _ in split], "'chosen' and 'rejected'")
    prompt = decoded(row.get("prompt"))
    asked = [{"content": prompt}] if isinstance(prompt, str) else prompt or []
    if any(turn.get("content") not in [one.get("content") for one in context] for turn in asked):
        raise UnreadableRow(
            "'chosen' and 'rejected' have several messages and do not repeat the prompt; a "
            "response is one message of the assistant"
        )
    texts = [text for _, text in split]
    responses = [{"text": texts[0], "chosen": True}, {"text": texts[1], "chosen": False}]
    return Content({"messages": context}, responses, ("prompt", "messages", *PAIR))


def transcripts(row: Row) -> Content:
    """Reads Anthropic's HH."""
    both = {name: transcript(row[name]) for name in ("chosen", "rejected")}
    return conversations({**row, **both})


def several_preferred(row: Row) -> Content:
    """Reads RewardBench 2: several chosen and several rejected texts."""
    responses = [
        response_of(text, f"{name}[{number}]", chosen=name == "chosen")
        for name in ("chosen", "rejected")
        for number, text in enumerate(decoded(row[name], always=True))
    ]
    return Content(_context(row), responses, ("prompt", "chosen", "rejected"))


def openai_preference(row: Row) -> Content:
    body = row["input"] if isinstance(row["input"], dict) else {}
    context = {"messages": messages_of(body.get("messages"), "input.messages")}
    names = ("preferred_output", "non_preferred_output")
    return Content(_and_tools(context, body), _preferred(row, *names), ("input", *names))


def batch_request(row: Row) -> Content:
    body = decoded(row["body"], always=True)
    if not isinstance(body, dict) or "messages" not in body:
        raise UnreadableRow(
            "'body' has no 'messages'; only batches of /v1/chat/completions are read"
        )
    context = {"messages": messages_of(body["messages"], "body.messages")}
    return Content(_and_tools(context, body), None, ("custom_id", "method", "url", "body"))


def batch_answer(row: Row) -> Content:
    raise UnreadableRow(
        "is an answer of OpenAI's batch API, which does not hold its prompt; give the file of "
        "requests, and this one as --answers: candor data convert --rows REQUESTS --answers ANSWERS"
    )


def _and_tools(context: Row, body: Row) -> Row:
    return context | ({"tools": body["tools"]} if body.get("tools") else {})


def sharegpt(field: str) -> Callable[[Row], Content]:
    """Reads a conversation whose last turn, if it is the assistant's, is the response."""

    def read(row: Row) -> Content:
        messages = _with_system(row, messages_of(row[field], field))
        used = (field, "system", "system_prompt")
        if row.get("chosen") is not None and row.get("rejected") is not None:
            return Content({"messages": messages}, _preferred(row), (*used, "chosen", "rejected"))
        if messages[-1]["role"] != "assistant":
            return Content({"messages": messages}, None, used)
        before, text = split_last(messages, field)
        return Content({"messages": before}, [{"text": text}], used)

    return read


ALPACA = ("instruction", "input", "system", "system_prompt", "history")


def _alpaca_messages(row: Row) -> Messages:
    """instruction and input as one message, after the turns of `history`."""
    history = decoded(row.get("history") or [], always=True)
    turns: Messages = []
    for number, pair in enumerate(history if isinstance(history, list) else [None]):
        if not isinstance(pair, list) or [type(said) for said in pair] != [str, str]:
            raise UnreadableRow(f"history[{number}] is not [what the user said, the reply]")
        roles = ("user", "assistant")
        turns += [{"role": role, "content": said} for role, said in zip(roles, pair, strict=True)]
    said = [row[name] for name in ("instruction", "input") if row.get(name)]
    if not said or not all(isinstance(part, str) for part in said):
        raise UnreadableRow("'instruction' and 'input' must be texts")
    return _with_system(row, [*turns, {"role": "user", "content": "\n\n".join(said)}])


def alpaca(row: Row) -> Content:
    context = {"messages": _alpaca_messages(row)}
    for pair in (("chosen", "rejected"), ("chosen_response", "rejected_response")):
        if all(row.get(name) is not None for name in pair):
            return Content(context, _preferred(row, *pair), (*ALPACA, *pair))
    for name in ("output", "response"):
        if row.get(name) is not None:
            return Content(context, _list_of(row[name], name), (*ALPACA, name))
    return Content(context, None, ALPACA)


def ultrafeedback(row: Row) -> Content:
    completions = decoded(row["completions"], always=True)
    responses = _list_of(completions, "completions")
    for one, completion in zip(responses, completions, strict=True):
        if isinstance(completion, dict) and isinstance(completion.get("model"), str):
            one["model"] = completion["model"]
    return Content({"messages": _alpaca_messages(row)}, responses, (*ALPACA, "completions"))


def _list_of(value: Any, field: str) -> list[Row]:
    """One response, or a list of them."""
    if isinstance(value, list) and not (
        value and isinstance(value[0], dict) and "role" in value[0]
    ):
        return [response_of(one, f"{field}[{number}]") for number, one in enumerate(value)]
    return [response_of(value, field)]


def answered(context: str, answers: str) -> Callable[[Row], Content]:
    """Reads the response or responses in `answers` to the context in `context`."""

    def read(row: Row) -> Content:
        value = decoded(row[answers], always=answers in ("completions", "answers"))
        read_context = _context(row, context)
        responses = _list_of(value, answers)
        if context == "prompt" and is_transcript(row["prompt"]):
            responses = [{**one, "text": one["text"].lstrip()} for one in responses]
        return Content(read_context, responses, (context, answers))

    return read


def with_responses(row: Row) -> Content:
    """Reads Candor's own rows. A response that is neither a text nor a message is left as it is: it
    alone cannot be scored. Beside a `key`, a `prompt` is what it is on `/v1/rewards`: a text in the
    reward model's template, which the server refuses otherwise."""
    name = "messages" if row.get("messages") is not None else "prompt"
    responses = decoded(row["responses"], always=True)
    if not isinstance(responses, list):
        raise UnreadableRow("'responses' is not a list")
    if row.get("messages") is not None and row.get("prompt") is not None:
        raise UnreadableRow("give exactly one of 'messages' and 'prompt'")
    context = _context(row, name)
    if name == "prompt" and isinstance(row["prompt"], str) and row.get("key") is not None:
        context = {"prompt": row["prompt"]}
    return Content(context, [_lenient(one) for one in responses], (name, "responses"))


def _lenient(value: Any) -> Any:
    try:
        return response_of(value, "responses")
    except UnreadableRow:
        return value


def stepwise(row: Row) -> Content:
    raise UnreadableRow(
        "is TRL's stepwise form: its 'completions' are the steps of one response. Join them into "
        "one text under 'completion'"
    )


def openai_messages(row: Row) -> Content:
    """Reads messages; the last, if it is the assistant's, is the response."""
    return sharegpt("messages")(row)


def prompt_only(row: Row) -> Content:
    return Content(_context(row), None, ("prompt",))


FORMS = (
    Form("OpenAI batch requests", ("custom_id", "body"), batch_request),
    Form(
        "OpenAI batch answers",
        ("custom_id", "response"),
        batch_answer,
        lambda row: isinstance(row["response"], dict) and "body" in row["response"],
    ),
    Form(
        "OpenAI preference",
        ("input", "preferred_output", "non_preferred_output"),
        openai_preference,
    ),
    Form("RewardBench 2", ("prompt", *PAIR), several_preferred, _are_lists_of_texts),
    Form(
        "UltraFeedback (binarized)",
        ("prompt", *PAIR, "score_chosen"),
        conversations,
        _are_conversations,
    ),
    Form("TRL preference (conversational)", PAIR, conversations, _are_conversations),
    Form("HH (Human: ... Assistant: ...)", PAIR, transcripts, _are_transcripts),
    Form("RewardBench", ("prompt", *PAIR, "subset"), preference("prompt")),
    Form(
        "TRL preference (conversational)",
        ("prompt", *PAIR),
        preference("prompt"),
        lambda row: not isinstance(decoded(row["prompt"]), str),
    ),
    Form("TRL preference", ("prompt", *PAIR), preference("prompt")),
    Form("Candor preference pairs", ("messages", *PAIR), preference("messages")),
    Form("ShareGPT preference", ("conversations", *PAIR), sharegpt("conversations")),
    Form("UltraFeedback", ("instruction", "completions"), ultrafeedback),
    Form("Alpaca preference", ("instruction", *PAIR), alpaca),
    Form("Alpaca preference", ("instruction", "chosen_response", "rejected_response"), alpaca),
    Form("Candor rows", ("messages", "responses"), with_responses),
    Form("Candor rows", ("prompt", "responses"), with_responses),
    Form("Candor labelled rows", ("messages", "response"), answered("messages", "response")),
    Form("ShareGPT", ("conversations",), sharegpt("conversations")),
    Form("ShareGPT", ("conversation",), sharegpt("conversation")),
    Form("Alpaca", ("instruction",), alpaca),
    Form("TRL prompt-completion", ("prompt", "completion"), answered("prompt", "completion")),
    Form("TRL stepwise supervision", ("prompt", "completions", "labels"), stepwise),
    Form("prompt and completions", ("prompt", "completions"), answered("prompt", "completions")),
    Form("prompt and answers", ("prompt", "answers"), answered("prompt", "answers")),
    Form("prompt and response", ("prompt", "response"), answered("prompt", "response")),
    Form("OpenAI messages", ("messages",), openai_messages),
    Form("TRL prompt-only", ("prompt",), prompt_only),
)
