"""The one reader of rows: from a file of any kind and form to Candor's rows, each with a key.

    {"key", "messages" | "prompt", "responses": [{"text", ...}], "meta": {...}, ...}

A row that has a `key` is Candor's: its other fields stay where they are. In any other row the
fields that the form does not use go under `meta`. A row that is not of its form becomes a row with
an `error`, so that the rest of a large data set can be used; jobs count such rows as failed.

Keys: `key` where rows have it. Otherwise the first of `id`, `custom_id` and `prompt_id` that every
row has and no two rows share. Otherwise a hash of the context and the responses.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candor.jobs.formats.forms import Content, form_of
from candor.jobs.formats.turns import Row, UnreadableRow, decoded
from candor.probes import jsonl
from candor.probes.sources.tables import Placed, objects

ID_FIELDS = ("id", "custom_id", "prompt_id")
KEPT_BESIDE = ("tools", "templated", "meta")
"""Fields of Candor's rows that a row without a key may have too."""
NULLABLE = ("error", "scores", "messages", "prompt", "responses", "tools", "templated")
"""Fields of Candor's rows for which null and absent are one."""
OWN = "Candor rows"

ANSWERS = ("response", "responses", "completion", "completions", "chosen", "rejected")

NEARER = {
    "question": "prompt", "query": "prompt", "problem": "prompt", "text": "prompt",
    "context": "prompt", "user": "prompt", "inputs": "prompt", "input": "prompt",
    "answer": "response", "solution": "response", "output": "response", "reply": "response",
    "generation": "response", "generated_text": "response", "outputs": "responses",
    "candidates": "responses", "generations": "responses", "samples": "responses",
    "preferred": "chosen", "winner": "chosen", "dispreferred": "rejected", "loser": "rejected",
}  # fmt: skip
"""Fields of unknown forms, and what a known form calls them."""


@dataclass(frozen=True)
class ReadRows:
    """The rows of a source, and what was found.

    Attributes:
        forms: number of rows by form.
        keyed_by: the field that the keys come from; empty for hashes.
        texts: number of rows whose prompt is a text that is read as the user's message.
        unreadable: the reason of each row that is not of its form, with its place.
    """

    rows: list[Row]
    forms: Counter[str]
    keyed_by: str
    texts: int
    unreadable: Sequence[str]

    def summary(self) -> str:
        """What was found, in one sentence for the terminal."""
        several = len(self.forms) > 1
        kinds = [f"{count} of {name}" if several else name for name, count in self.forms.items()]
        parts = [f"{len(self.rows)} rows ({' and '.join(kinds)})"]
        if self.keyed_by != "key":
            parts.append(f"keys: {self.keyed_by or 'hashes of the rows'}")
        if self.texts:
            parts.append(f"{self.texts} prompts are texts, read as the user's message")
        if self.unreadable:
            parts.append(
                f"{len(self.unreadable)} rows cannot be read, the first: {self.unreadable[0]}"
            )
        return "; ".join(parts)


def read(source: Path) -> ReadRows:
    """Every row of a source, in Candor's form.

    Args:
        source: a file, or `hf:org/name:split`.

    Raises:
        ValueError: as `objects`; no row can be read; a key is missing, malformed or not unique.
        OSError: the file cannot be read.
    """
    placed = list(objects(source))
    if not placed:
        raise ValueError(f"{source}: no rows")
    own = any(row.get("key") is not None for _, row in placed)
    forms: Counter[str] = Counter()
    found: list[Row] = []
    unreadable: list[str] = []
    texts = 0
    for place, row in placed:
        if own and row.get("key") is None:
            raise ValueError(f"{place}: has no 'key', which other rows of the file have")
        name, made, is_text = _converted(place, row)
        forms[name] += 1
        texts += is_text
        if "unreadable" in made:
            unreadable.append(reason := f"{place}: {made['unreadable']}")
            made = {"error": {"type": "invalid_row", "message": reason}}
        found.append(made)
    if len(unreadable) == len(placed):
        raise ValueError(unreadable[0])
    keyed_by = "key" if own else _id_field([row for _, row in placed])
    keys = _keys(placed, found, keyed_by)
    rows = [{"key": key, **row} for key, row in zip(keys, found, strict=True)]
    return ReadRows(rows, forms, keyed_by, texts, unreadable)


def _converted(place: str, row: Row) -> tuple[str, Row, bool]:
    """The name of the row's form, the row without its key, and whether its prompt was a text."""
    row = {name: value for name, value in row.items() if name not in NULLABLE or value is not None}
    is_own = row.get("key") is not None
    if is_own and "messages" in row:
        row["messages"] = decoded(row["messages"], always=True)
    if is_own and ("scores" in row or "error" in row or _is_prompt(row)):
        return OWN, _without(row, ("key",)), False
    form = form_of(row)
    if form is None:
        if is_own:  # a row of another of Candor's files
            return OWN, _without(row, ("key",)), False
        return "no known form", {"unreadable": _unknown(row)}, False
    try:
        content = form.read(row)
    except UnreadableRow as error:
        return form.name, {"unreadable": f"({form.name}) {error}"}, False
    prompt = row.get("prompt")
    is_text = content.context.get("messages") == [{"role": "user", "content": prompt}]
    return form.name, _made(row, content, is_own), is_text


def _is_prompt(row: Row) -> bool:
    """Whether a row of Candor's is a prompt. Its last message may be an opening of the reply."""
    others = ("responses", "response", "chosen", "completion", "completions")
    return "messages" in row and not any(name in row for name in others)


def _made(row: Row, content: Content, is_own: bool) -> Row:
    made = dict(content.context)
    if content.responses is not None:
        made["responses"] = content.responses
    for name in KEPT_BESIDE:
        if row.get(name) is not None and name not in made:
            made[name] = decoded(row[name], always=name == "tools")
    others = _without(row, ("key", *content.used, *KEPT_BESIDE, *made))
    if is_own:
        return {**made, **others}
    meta = made.pop("meta", {})
    meta = {**others, **(meta if isinstance(meta, dict) else {"meta": meta})}
    return {**made, **({"meta": meta} if meta else {})}


def _without(row: Row, names: Iterable[str]) -> Row:
    absent = set(names)
    return {name: value for name, value in row.items() if name not in absent}


def _id_field(rows: Sequence[Row]) -> str:
    """The first of `ID_FIELDS` that every row has and no two rows share; empty where none is."""
    for name in ID_FIELDS:
        ids = [row.get(name) for row in rows]
        texts = {str(one) for one in ids if _is_id(one)}
        if len(texts) == len(rows):
            return name
    return ""


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _keys(placed: Sequence[Placed], found: Sequence[Row], keyed_by: str) -> list[str]:
    keys: dict[str, None] = {}
    for (place, row), made in zip(placed, found, strict=True):
        key = str(row[keyed_by]) if keyed_by and _is_id(row[keyed_by]) else ""
        if keyed_by and not key:
            raise ValueError(f"{place}: not an object with a text under '{keyed_by}'")
        if not keyed_by:
            said = [made.get(name) for name in ("messages", "prompt", "tools", "responses")]
            said.append(row if "error" in made else None)
            digest = hashlib.sha256(jsonl.line_of(said, sort_keys=True))
            whole = key = digest.hexdigest()[:16]
            repeats = 1
            while key in keys:
                repeats += 1
                key = f"{whole}-{repeats}"
        if key in keys:
            raise ValueError(f"{place}: {keyed_by} {key!r} was used before")
        try:
            key.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{place}: the text under '{keyed_by}' has a lone surrogate") from None
        keys[key] = None
    return list(keys)


def _unknown(row: Row) -> str:
    """Why a row has no form, and what would make it one."""
    renames = [
        f"{name!r} to {NEARER[name]!r}"
        for name in row
        if name in NEARER and NEARER[name] not in row
    ]
    if renames:
        fix = f"rename {' and '.join(renames)}"
    elif any(name in row for name in ANSWERS):
        fix = "add what is answered, as 'prompt' or 'messages'"
    else:
        fix = 'write {"prompt": ..., "responses": [...]}'
    names = ", ".join(list(row)[:12]) or "no fields"
    return f"has the fields {names}, which are no form that Candor reads (docs/formats.md): {fix}"
