"""The tokeniser of a reward model, and the identity of its chat template."""

from __future__ import annotations

import re
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from candor.models.causes import cause_of
from candor.models.checkpoint import ModelRefused
from candor.probes.identity import dated_sha256, template_sha256
from candor.text.template import ChatTemplate


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokeniser in `folder`.

    Raises:
        ModelRefused: it does not load, is not a fast one, or has several chat templates.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        reason = cause_of(error, folder)
        raise ModelRefused(
            f"the tokeniser does not load: {_missing_package(folder) or reason}"
        ) from error
    if not tokenizer.is_fast:
        raise ModelRefused(
            "the tokeniser is not a fast one: response tokens cannot be located; save it with "
            "tokenizer.json"
        )
    if not isinstance(tokenizer.chat_template, str | None):
        raise ModelRefused(
            "the tokeniser has several chat templates; keep the one the model was trained with"
        )
    return cast(PreTrainedTokenizerBase, tokenizer)


def _missing_package(folder: Path) -> str | None:
    """What to install for a tokeniser that is saved in a form of its own only; None if nothing."""
    path = folder / "tokenizer.model"
    if (folder / "tokenizer.json").is_file() or not path.is_file():
        return None
    with path.open("rb") as file:
        line = file.readline(1000)
    kind, packages = "SentencePiece", ["sentencepiece", "protobuf"]
    if re.fullmatch(rb"[A-Za-z0-9+/]+=* \d+\s*", line):
        kind, packages = "tiktoken", ["tiktoken"]
    modules = {"protobuf": "google.protobuf"}
    missing = [one for one in packages if not _is_installed(modules.get(one, one))]
    if not missing:
        return None
    return (
        f"it is saved in {kind}'s form alone (tokenizer.model), and {' and '.join(missing)} is not "
        f"installed: pip install {' '.join(missing)}, or save it with tokenizer.json"
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def template_identity(
    tokenizer: PreTrainedTokenizerBase, template_date: date | None
) -> dict[str, Any]:
    """The template's hash, and the date that it is told if it asks for one: two attributes of
    `RewardModel`.

    Raises:
        ModelRefused: the template writes another text each time.
    """
    template = ChatTemplate(tokenizer, template_date=template_date)
    undated = template_sha256(cast(str | None, tokenizer.chat_template))
    if not template.is_stable():
        raise ModelRefused("the chat template writes another text each time it is called")
    if not template.reads_clock():
        return {"template_sha256": undated}
    dated = dated_sha256(undated, template.date.isoformat())
    return {"template_sha256": dated, "template_date": template.date}
