"""The texts that a tokeniser and its chat template write around turns, and those of others.

The header of the assistant's turn is what a flat text shows of where the response begins. All marks
are found by rendering; only what no rendering can show is known by name: marks that open reasoning,
tokens that end a turn, and the headers of other models' templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from transformers import PreTrainedTokenizerBase

from candor.errors import InvalidMessages
from candor.text.request import ChatMessage
from candor.text.template import ChatTemplate

STAND_IN = "CandorResponseGoesHere"
"""Replaces the response, to find out what the template writes around it. Letters only, so that a
template that strips white space leaves it unchanged."""
USER_STAND_IN = "CandorQuestionGoesHere"

REASONING = re.compile(r"<\|?(?:\w+:)?think(?:ing)?\|?>|\[THINK\]|<reason(?:ing)?>|<\|channel\|>")
"""Marks that open reasoning. They belong to the reply, even if a generation prompt writes one."""

END_NAMES = frozenset(
    (
        *("<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"),
        *("<|eot|>", "<|eom|>", "</s>", "<eos>", "<end_of_turn>", "<turn|>", "<|return|>"),
        *("<|call|>", "<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>", "<|end_of_turn|>", "[EOS]"),
        *("<|endofturn|>", "<|end_of_sentence|>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    )
)
"""Tokens that end a turn or a text. Only those count that the tokeniser has as special tokens."""

FOREIGN = re.compile(
    r"<\|im_start\|>|<\|start_header_id\|>|<\|start_of_role\|>|<\|header_start\|>|<start_of_turn>"
    r"|<\|turn>|<\|START_OF_TURN_TOKEN\|>|<\|start\|>|<\|(?:user|assistant|system)\|>"
    r"|<\uff5c(?:User|Assistant)\uff5c>|\[INST\]|\[/INST\]|<<SYS>>|<end_of_turn>|<\|eot_id\|>"
)
"""Marks of well-known templates."""

FOREIGN_END = re.compile(
    r"(?:<(?=[^<>\n]*[|_])[^<>\n]{1,40}>\s*(?:assistant|model|ai|bot)(?:\s*<[^<>\n]{1,40}>)?"
    r"|<[|\uff5c]?\s*[\w :]{0,20}(?:[Aa]ssistant|chatbot|CHATBOT_TOKEN|model)\w*\s*[|\uff5c]?>"
    r"|\[/INST\]|\bASSISTANT:|\bCorrect Assistant:|^(?:Assistant|AI|Bot|Model):"
    r"|^#+ *(?:Response|Assistant|Answer):)"
    r"\s*(?:<[^<>\n]{0,20}think[^<>\n]{0,20}>\s*)?\Z",
    re.MULTILINE,
)
"""The header before a reply, at the end of a prompt, in any template's form."""

_END_CHARS = 200
"""Characters at the end of a prompt that can hold such a header."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The texts that a tokeniser and its chat template write around turns; "" if there is none."""

    header: str = ""
    """Text between the content of the last turn and of the assistant's turn, up to where the
    policy writes on: `<|im_end|>\\n<|im_start|>assistant\\n`. "" also if the model has no
    template."""
    opening: str = ""
    """What the template writes between header and content: `<think>\\n\\n</think>\\n\\n`."""
    end: str = ""
    """Text after the assistant's content, without white space: `<|im_end|>`."""
    ends: tuple[str, ...] = ()
    """Tokens that end a turn: those in `end`, and those that are known by name."""
    bos: str = ""
    writes_bos: bool = False
    """Whether the template's text begins with `bos`."""
    adds_bos: bool = False
    """Whether the tokeniser puts `bos` before a text that has none."""
    eos: str = ""
    pad: str = ""
    header_tokens: tuple[str, ...] = ()
    """The added tokens in `header`."""
    channel: str = ""
    """The added token that `opening` begins with: `<|channel|>`."""

    @property
    def fillers(self) -> tuple[str, ...]:
        """What a policy writes behind its reply."""
        return tuple(mark for mark in (self.end, *self.ends, self.eos, self.pad) if mark)


def find_marks(
    template: ChatTemplate, tokenizer: PreTrainedTokenizerBase, added: Sequence[str]
) -> Marks:
    """The marks of the tokeniser and the template.

    The header is the text that the template writes before an assistant's turn in both cases: as a
    generation prompt, and in a rendered conversation. Templates of reasoning models add text in one
    case or the other.

    Args:
        added: the texts of the tokeniser's added tokens.
    """
    special = set(tokenizer.all_special_tokens) | {
        str(token) for token in tokenizer.added_tokens_decoder.values() if token.special
    }
    marks = Marks(
        ends=tuple(sorted(END_NAMES & special)),
        bos=tokenizer.bos_token or "",
        eos=tokenizer.eos_token or "",
        pad=tokenizer.pad_token or "",
    )
    user = [ChatMessage("user", USER_STAND_IN)]
    try:
        whole = template.render([*user, ChatMessage("assistant", STAND_IN)])
        prompted = template.render(user, add_generation_prompt=True)
        unprompted = template.render(user)
    except InvalidMessages:
        return marks
    between, _, after = whole.partition(USER_STAND_IN)[2].partition(STAND_IN)
    prompted = prompted.partition(USER_STAND_IN)[2]
    # A template without a generation prompt writes the same text in both cases.
    same = prompted == unprompted.partition(USER_STAND_IN)[2]
    header = between if same else common_start(between, prompted)
    if thinks := REASONING.search(header):
        header = header[: thinks.start()]
    if not header.strip():
        header = ""
    opening = between[len(header) :] if header else ""
    return replace(
        marks,
        header=header,
        opening=opening,
        end=after.strip(),
        ends=tuple({*marks.ends, *tokens_in(after, added)}),
        writes_bos=bool(marks.bos) and whole.startswith(marks.bos),
        header_tokens=tuple(tokens_in(header, added)),
        channel=next((token for token in added if opening.startswith(token)), ""),
    )


def tokens_in(text: str, added: Iterable[str]) -> list[str]:
    """The added tokens that occur in a text."""
    return [token for token in added if token.strip() and token in text]


def common_start(left: str, right: str) -> str:
    """The longest common start of two texts."""
    pairs = zip(left, right, strict=False)
    return "".join(a for a, _ in takewhile(lambda both: both[0] == both[1], pairs))


def ends_in_a_header(prompt: str) -> bool:
    """Whether the prompt ends as a template of any model ends a prompt."""
    return FOREIGN_END.search(prompt[-_END_CHARS:]) is not None
