"""Files of rows as people have them: one per form, and one per kind of file. All texts are ours;
the fields are those of the data sets that a form is named for."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ASK, YES, NO = "Is the sea blue?", "It is.", "It is not."
"""One prompt and two replies, in every form."""
USER = {"role": "user", "content": ASK}
SYSTEM = {"role": "system", "content": "Be brief."}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


@dataclass(frozen=True)
class Example:
    """A row in some form, and what it says.

    Attributes:
        form: as the reader names it.
        responses: None for a prompt; a pair of text and chosen where the form has a preference.
        meta: the fields of the row that its form does not use.
    """

    row: dict[str, Any]
    form: str
    context: dict[str, Any]
    responses: Sequence[str | tuple[str, bool]] | None
    meta: dict[str, Any] | None = None

    @property
    def wanted(self) -> dict[str, Any]:
        """The row in Candor's form, without its key."""
        row = dict(self.context)
        if self.responses is not None:
            row["responses"] = [
                {"text": one} if isinstance(one, str) else {"text": one[0], "chosen": one[1]}
                for one in self.responses
            ]
        return row | ({"meta": self.meta} if self.meta else {})


ASKED = {"messages": [USER]}
PAIR = ((YES, True), (NO, False))
HH = f"\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: {ASK}\n\nAssistant: "
HH_CONTEXT = {"messages": [{"role": "user", "content": "Hello"}, said("Hi."), USER]}
PARTS = [{"type": "text", "text": ASK}]
TEMPLATED = f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]

EXAMPLES = {
    "texts as responses": Example(
        {"messages": [USER], "responses": [YES, NO]}, "Candor rows", ASKED, (YES, NO)
    ),
    "objects as responses": Example(
        {"messages": [USER], "responses": [{"text": YES}, {"text": NO}], "topic": "sea"},
        "Candor rows",
        ASKED,
        (YES, NO),
        {"topic": "sea"},
    ),
    "messages as responses": Example(
        {"messages": [USER], "responses": [said(YES), said(NO)]}, "Candor rows", ASKED, (YES, NO)
    ),
    "a text prompt with responses": Example(
        {"prompt": ASK, "responses": [YES, NO]}, "Candor rows", ASKED, (YES, NO)
    ),
    "a prompt in a chat template": Example(
        {"prompt": TEMPLATED, "responses": [YES]}, "Candor rows", {"prompt": TEMPLATED}, (YES,)
    ),
    "a prompt that is said to be templated": Example(
        {"prompt": ASK, "templated": True, "responses": [YES]},
        "Candor rows",
        {"prompt": ASK, "templated": True},
        (YES,),
    ),
    "tools": Example(
        {"messages": [USER], "tools": TOOLS, "responses": [YES]},
        "Candor rows",
        {"messages": [USER], "tools": TOOLS},
        (YES,),
    ),
    "labelled rows": Example(
        {"group": "sea", "label": 1, "response": YES, "messages": [USER]},
        "Candor labelled rows",
        ASKED,
        (YES,),
        {"group": "sea", "label": 1},
    ),
    "TRL prompt-only, plain": Example({"prompt": ASK}, "TRL prompt-only", ASKED, None),
    "TRL prompt-only, conversational": Example({"prompt": [USER]}, "TRL prompt-only", ASKED, None),
    "TRL prompt-completion, plain": Example(
        {"prompt": ASK, "completion": YES}, "TRL prompt-completion", ASKED, (YES,)
    ),
    "TRL prompt-completion, conversational": Example(
        {"prompt": [SYSTEM, USER], "completion": [said(YES)]},
        "TRL prompt-completion",
        {"messages": [SYSTEM, USER]},
        (YES,),
    ),
    "TRL unpaired preference": Example(
        {"prompt": ASK, "completion": YES, "label": True},
        "TRL prompt-completion",
        ASKED,
        (YES,),
        {"label": True},
    ),
    "TRL preference, plain": Example(
        {"prompt": ASK, "chosen": YES, "rejected": NO}, "TRL preference", ASKED, PAIR
    ),
    "TRL preference, conversational": Example(
        {"prompt": [USER], "chosen": [said(YES)], "rejected": [said(NO)]},
        "TRL preference (conversational)",
        ASKED,
        PAIR,
    ),
    "TRL preference, implicit prompt": Example(
        {"chosen": [USER, said(YES)], "rejected": [USER, said(NO)]},
        "TRL preference (conversational)",
        ASKED,
        PAIR,
    ),
    "OpenAI messages with the reply": Example(
        {"messages": [SYSTEM, USER, said(YES)]},
        "OpenAI messages",
        {"messages": [SYSTEM, USER]},
        (YES,),
    ),
    "OpenAI messages, a prompt": Example({"messages": [USER]}, "OpenAI messages", ASKED, None),
    "OpenAI messages with text parts": Example(
        {"messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": PARTS}]},
        "OpenAI messages",
        {"messages": [{"role": "user", "content": PARTS}]},
        (ASK,),
    ),
    "OpenAI batch": Example(
        {
            "custom_id": "q",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": [USER], "tools": TOOLS},
        },
        "OpenAI batch requests",
        {"messages": [USER], "tools": TOOLS},
        None,
    ),
    "OpenAI preference": Example(
        {
            "input": {"messages": [USER]},
            "preferred_output": [said(YES)],
            "non_preferred_output": [said(NO)],
        },
        "OpenAI preference",
        ASKED,
        PAIR,
    ),
    "ShareGPT": Example(
        {"system": "Be brief.", "conversations": [human(ASK), gpt(YES)]},
        "ShareGPT",
        {"messages": [SYSTEM, USER]},
        (YES,),
    ),
    "ShareGPT that ends with the user": Example(
        {"conversations": [human("Hello"), gpt("Hi."), human(ASK)]}, "ShareGPT", HH_CONTEXT, None
    ),
    "ShareGPT preference": Example(
        {"conversations": [human(ASK)], "chosen": gpt(YES), "rejected": gpt(NO)},
        "ShareGPT preference",
        ASKED,
        PAIR,
    ),
    "Alpaca": Example(
        {"instruction": "Answer.", "input": ASK, "output": YES},
        "Alpaca",
        {"messages": [{"role": "user", "content": f"Answer.\n\n{ASK}"}]},
        (YES,),
    ),
    "Alpaca with history": Example(
        {
            "instruction": ASK,
            "input": "",
            "output": YES,
            "history": [["Hello", "Hi."]],
            "system": "Be brief.",
        },
        "Alpaca",
        {"messages": [SYSTEM, *HH_CONTEXT["messages"]]},
        (YES,),
    ),
    "Alpaca preference": Example(
        {"instruction": ASK, "input": "", "chosen": YES, "rejected": NO},
        "Alpaca preference",
        ASKED,
        PAIR,
    ),
    "HH": Example(
        {"chosen": HH + YES, "rejected": HH + NO},
        "HH (Human: ... Assistant: ...)",
        HH_CONTEXT,
        PAIR,
    ),
    "HH with its prompt apart": Example(
        {"prompt": HH.rstrip(), "chosen": f" {YES}", "rejected": f" {NO}"},
        "TRL preference",
        HH_CONTEXT,
        PAIR,
    ),
    "RewardBench": Example(
        {
            "prompt": ASK,
            "chosen": YES,
            "chosen_model": "a",
            "rejected": NO,
            "rejected_model": "b",
            "subset": "sea",
            "id": 7,
        },
        "RewardBench",
        ASKED,
        PAIR,
        {"chosen_model": "a", "rejected_model": "b", "subset": "sea", "id": 7},
    ),
    "RewardBench 2": Example(
        {
            "id": "0",
            "prompt": ASK,
            "chosen": [YES],
            "rejected": [NO, "Red."],
            "num_correct": 1,
            "subset": "sea",
        },
        "RewardBench 2",
        ASKED,
        (*PAIR, ("Red.", False)),
        {"id": "0", "num_correct": 1, "subset": "sea"},
    ),
    "UltraFeedback, binarized": Example(
        {
            "prompt": ASK,
            "prompt_id": "p",
            "chosen": [USER, said(YES)],
            "rejected": [USER, said(NO)],
            "messages": [USER, said(YES)],
            "score_chosen": 8.5,
            "score_rejected": 3.0,
        },
        "UltraFeedback (binarized)",
        ASKED,
        PAIR,
        {"prompt_id": "p", "score_chosen": 8.5, "score_rejected": 3.0},
    ),
    "a conversation beside its prompt": Example(
        {"prompt": ASK, "messages": [USER, said(YES)]},
        "OpenAI messages",
        ASKED,
        (YES,),
        {"prompt": ASK},
    ),
    "prompt and response": Example(
        {"prompt": ASK, "response": YES, "helpfulness": 4},
        "prompt and response",
        ASKED,
        (YES,),
        {"helpfulness": 4},
    ),
    "prompt and answers": Example(
        {"prompt": HH, "answers": [{"answer": YES, "rank": 1}, {"answer": NO, "rank": 2}]},
        "prompt and answers",
        HH_CONTEXT,
        (YES, NO),
    ),
    "verl": Example(
        {
            "data_source": "sea",
            "prompt": [USER],
            "reward_model": {"style": "rule", "ground_truth": "yes"},
            "extra_info": {"index": 3},
        },
        "TRL prompt-only",
        ASKED,
        None,
        {
            "data_source": "sea",
            "reward_model": {"style": "rule", "ground_truth": "yes"},
            "extra_info": {"index": 3},
        },
    ),
}

REFUSED = {
    "OpenAI batch answers": (
        {"id": "b", "custom_id": "q", "response": {"status_code": 200, "body": {}}, "error": None},
        "which does not hold its prompt; give the file of requests, and this one as --answers",
    ),
    "TRL stepwise supervision": (
        {"prompt": ASK, "completions": ["One.", "Two."], "labels": [True, False]},
        "are the steps of one response. Join them into one text under 'completion'",
    ),
    "question and answer": (
        {"question": ASK, "answer": YES},
        "rename 'question' to 'prompt' and 'answer' to 'response'",
    ),
    "a response without its prompt": (
        {"response": YES, "score": 1},
        "add what is answered, as 'prompt' or 'messages'",
    ),
    "something else": (
        {"image": "sea.png", "caption": "blue"},
        'has the fields image, caption, .* write {"prompt": ..., "responses": \\[...\\]}',
    ),
    "pairs that differ before their last message": (
        {
            "chosen": [USER, said(YES)],
            "rejected": [{"role": "user", "content": "Else?"}, said(NO)],
        },
        "'chosen' and 'rejected' differ before their last message",
    ),
    "pairs of several messages that do not repeat the prompt": (
        {
            "prompt": [USER],
            "chosen": [said("Hm."), {"role": "user", "content": "Well?"}, said(YES)],
            "rejected": [said("Hm."), {"role": "user", "content": "Well?"}, said(NO)],
        },
        "do not repeat the prompt; a response is one message of the assistant",
    ),
    "a speaker that nobody knows": (
        {"conversations": [{"from": "narrator", "value": ASK}, gpt(YES)]},
        r"conversations\[0\]: the speaker 'narrator' is none of human, user,",
    ),
    "an image in a response": (
        {"prompt": ASK, "completion": [{"role": "assistant", "content": [{"type": "image_url"}]}]},
        "'completion' has a part that is not a text",
    ),
    "tool calls in a response": (
        {"prompt": [USER], "completion": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]},
        "'completion' has tool calls; rows take responses that are texts",
    ),
    "an empty prompt": ({"prompt": " ", "completion": YES}, "'prompt' is empty"),
}


def jsonl(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(rows: Sequence[dict[str, Any]], delimiter: str = ",", encode: Any = json.dumps) -> bytes:
    """The rows as CSV. Lists and objects are encoded: in JSON, or with `str` as pandas does it."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter)
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name, "") for name in names]
        writer.writerow([encode(c) if isinstance(c, list | dict) else c for c in cells])
    return stream.getvalue().encode()


def parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet as files

    stream = io.BytesIO()
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    files.write_table(pyarrow.Table.from_pydict(columns), stream)
    return stream.getvalue()


def zstandard(content: bytes) -> bytes:
    import pyarrow

    stream = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(stream, "zstd") as packed:
        packed.write(content)
    return bytes(stream.getvalue())


BOM = b"\xef\xbb\xbf"

KINDS = {
    "rows.jsonl": jsonl,
    "bom.jsonl": lambda rows: BOM + jsonl(rows),
    "crlf.jsonl": lambda rows: b"\r\n" + jsonl(rows).replace(b"\n", b"\r\n\r\n").rstrip(),
    "rows.jsonl.gz": lambda rows: gzip.compress(jsonl(rows)),
    "crlf.jsonl.gz": lambda rows: gzip.compress(BOM + jsonl(rows).replace(b"\n", b"\r\n")),
    "rows.jsonl.zst": lambda rows: zstandard(jsonl(rows)),
    "rows.json": lambda rows: json.dumps(rows).encode(),
    "indented.json": lambda rows: BOM + json.dumps(rows, indent=2).replace("\n", "\r\n").encode(),
    "wrapped.json": lambda rows: json.dumps({"version": 1, "data": rows}).encode(),
    "wrapped and indented.json": lambda rows: json.dumps({"data": rows}, indent=1).encode(),
    "viewer.json": lambda rows: json.dumps(
        {"features": [], "rows": [{"row_idx": n, "row": row} for n, row in enumerate(rows)]}
    ).encode(),
    "lines.json": jsonl,
    "array.jsonl": lambda rows: json.dumps(rows).encode(),
    "rows.json.gz": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "rows.csv": table,
    "excel.csv": lambda rows: BOM + table(rows, ";"),
    "rows.tsv": lambda rows: table(rows, "\t"),
    "pandas.csv": lambda rows: table(rows, encode=str),
    "rows.csv.gz": lambda rows: gzip.compress(table(rows)),
    "rows.parquet": parquet,
    "no ending": jsonl,
}
"""Content of a file by its name, for any rows."""


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
