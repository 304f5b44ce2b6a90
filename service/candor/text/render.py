"""`Renderer`: one reward model's texts as items, and its token ids as texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import cast

from transformers import PreTrainedTokenizerBase

from candor.errors import InvalidRequest
from candor.item import Item
from candor.text.conversation import Conversation
from candor.text.marks import Marks, find_marks
from candor.text.request import Context, Empty, Reply, Truncation
from candor.text.template import ChatTemplate
from candor.text.tokenise import Tokeniser
from candor.text.writing import Ending, Wording


class Renderer:
    """Renders and tokenises for one RM. Several threads may use it at once.

    Args:
        tokenizer: a fast tokeniser (offsets are needed), with the RM's chat template if it has one.
        max_length: the RM's window in tokens.
        ending: see `Ending`.
        template_date: see `ChatTemplate`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        ending: Ending = "template",
        template_date: date | None = None,
    ) -> None:
        template = ChatTemplate(tokenizer, template_date=template_date)
        tokeniser = Tokeniser(tokenizer)
        found = find_marks(template, tokenizer, tokeniser.added)
        marks = replace(found, adds_bos=tokeniser.adds_bos)
        self.wording = Wording(template, tokeniser, marks, ending, max_length)
        self._tokenizer = tokenizer

    def encode(
        self,
        context: Context,
        response: Reply,
        *,
        truncation: Truncation = "error",
        want_tokens: bool = False,
        empty: Empty = "error",
    ) -> Item:
        """Renders one (context, response) pair; see `Conversation.encode`."""
        conversation = Conversation(
            self.wording, context, truncation=truncation, want_tokens=want_tokens, empty=empty
        )
        return conversation.encode(response)

    def marks(self) -> Marks:
        """The marks that the tokeniser and the template write around turns."""
        return self.wording.marks

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included.

        Raises:
            InvalidRequest: the tokeniser has no such id.
        """
        if not all(0 <= token_id < len(self._tokenizer) for token_id in token_ids):
            raise InvalidRequest(f"token ids must be from 0 to {len(self._tokenizer) - 1}")
        text = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return cast(str, text)
