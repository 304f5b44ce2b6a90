"""Candor's rows in the forms of others: TRL's preference rows, and requests of OpenAI's batch API.

The answers of a batch hold no prompts; `with_answers` puts them to the rows that they answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from candor.jobs.formats.turns import Row, UnreadableRow, text_of

CHAT = "/v1/chat/completions"


def preference_row(
    key: str, messages: Sequence[Row], chosen: str, rejected: str, **others: Any
) -> Row:
    """One row of TRL's conversational preference format, with the key and other columns beside."""

    def said(text: str) -> list[Row]:
        return [{"role": "assistant", "content": text}]

    return {
        "key": key,
        "prompt": list(messages),
        "chosen": said(chosen),
        "rejected": said(rejected),
        **others,
    }


def preference_rows(row: Row) -> list[Row]:
    """TRL's rows of one row whose responses say which were chosen: one per chosen and rejected.

    Raises:
        UnreadableRow: the row has no messages, or not both sides.
    """
    messages = _messages(row)
    sides: dict[bool, list[str]] = {True: [], False: []}
    for number, response in enumerate(row.get("responses") or ()):
        if isinstance(response, dict) and isinstance(response.get("chosen"), bool):
            sides[response["chosen"]].append(text_of(response, f"responses[{number}]"))
    if not sides[True] or not sides[False]:
        raise UnreadableRow(
            "no response is marked as chosen and another as rejected; `candor pairs` makes pairs "
            "of scored responses"
        )
    pairs = [(chosen, rejected) for chosen in sides[True] for rejected in sides[False]]
    return [
        preference_row(
            row["key"] if len(pairs) == 1 else f"{row['key']}/{number}",
            messages,
            *pair,
            **({"meta": row["meta"]} if row.get("meta") else {}),
        )
        for number, pair in enumerate(pairs)
    ]


def batch_request_row(row: Row, body: Mapping[str, Any]) -> Row:
    """A row's prompt as one request of OpenAI's batch API.

    Args:
        body: the fields beside the messages, such as model and n.

    Raises:
        UnreadableRow: the row has no messages.
    """
    tools = {"tools": row["tools"]} if row.get("tools") else {}
    return {
        "custom_id": row["key"],
        "method": "POST",
        "url": CHAT,
        "body": {**body, "messages": _messages(row), **tools},
    }


def with_answers(rows: Iterable[Row], answers: Mapping[str, Row]) -> list[Row]:
    """The rows with the responses that a batch gave, by `custom_id`; a row whose request failed, or
    was not answered, gets an `error`.

    Args:
        answers: lines of the API's output file by `custom_id`.
    """
    return [_answered(row, answers.get(row["key"])) for row in rows]


def _answered(row: Row, answer: Row | None) -> Row:
    kept = {name: value for name, value in row.items() if name != "responses"}
    if answer is None:
        return {**kept, "error": {"type": "no_answer", "message": "the batch has no answer"}}
    response = answer.get("response") or {}
    body = response.get("body") or {}
    if response.get("status_code", 200) != 200 or not body.get("choices"):
        detail = answer.get("error") or body.get("error") or {}
        said = detail.get("message") if isinstance(detail, dict) else detail
        return {**kept, "error": {"type": "batch_failed", "message": str(said or "no choices")}}
    try:
        responses = [
            {
                "text": text_of(choice["message"], "message"),
                "finish_reason": choice.get("finish_reason"),
            }
            for choice in sorted(body["choices"], key=lambda choice: int(choice.get("index", 0)))
        ]
    except (KeyError, TypeError, UnreadableRow) as error:
        return {**kept, "error": {"type": "batch_failed", "message": f"choices: {error}"}}
    return {**kept, "model": body.get("model"), "responses": responses}


def _messages(row: Row) -> list[Row]:
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise UnreadableRow("has no 'messages'; a 'prompt' in a chat template is one RM's alone")
    return messages
