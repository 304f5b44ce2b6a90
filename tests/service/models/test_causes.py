"""A refusal says the first line of its cause, and what to install or permit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from httpx2 import ConnectError, Request, Response
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from candor.models.causes import cause_of
from candor.models.checkpoint import ModelRefused
from candor.models.load import load_reward_model


def hub_error(kind: type[Exception], code: int) -> Exception:
    response = Response(code, request=Request("GET", "https://huggingface.co/a/b"))
    return kind(f"{code} Client Error.\nMore of it", response=response)  # type: ignore[call-arg]


CAUSES: dict[str, tuple[BaseException, str, str]] = {
    "gated": (hub_error(GatedRepoError, 403), "403 Client Error", "HF_TOKEN"),
    "no such repository": (hub_error(RepositoryNotFoundError, 404), "404", "check the name"),
    "no such revision": (hub_error(RevisionNotFoundError, 404), "404", "--revision"),
    "offline": (LocalEntryNotFoundError("Cannot find it"), "Cannot find it", "HF_HUB_CACHE"),
    "no network": (ConnectError("Name or service not known"), "Name or", "HTTPS_PROXY"),
    "out of memory": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        "CUDA out of memory",
        "--dtype bfloat16",
    ),
    "out of memory on a CPU": (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        "DefaultCPUAllocator",
        "does not fit into memory",
    ),
    "disk full": (OSError(28, "No space left on device"), "No space left", "the disk is full"),
    "not readable": (PermissionError(13, "Permission denied"), "Permission", "user read"),
    "package": (ImportError("requires the SentencePiece library: sentencepiece"), "requires",
                "pip install sentencepiece protobuf"),
    "package 2": (ValueError("`tiktoken` is required"), "is required", "pip install tiktoken"),
    "shard": (FileNotFoundError("No such file: model-2.safetensors"), "model-2", "missing or"),
    "unknown": (ValueError("what nobody foresaw\nsecond line"), "what nobody foresaw", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_says_its_first_line_and_what_to_do(name: str) -> None:
    error, first, advice = CAUSES[name]
    found = cause_of(error)
    assert found.startswith(type(error).__name__)
    assert first in found
    assert advice in found
    assert "\n" not in found
    assert "second line" not in found


def test_the_cause_behind_a_wrapper_is_said_and_advised_on() -> None:
    try:
        try:
            raise ModuleNotFoundError("No module named 'sentencepiece'")
        except ModuleNotFoundError as inner:
            raise ValueError("Couldn't instantiate the backend from one of:\n(1) ...") from inner
    except ValueError as outer:
        found = cause_of(outer)
    assert found.startswith("ValueError: Couldn't instantiate the backend from one of:")
    assert "ModuleNotFoundError: No module named 'sentencepiece'" in found
    assert "pip install sentencepiece protobuf" in found


def test_the_models_path_is_left_out_and_long_lines_are_cut(tmp_path: Path) -> None:
    folder = tmp_path / "rm"
    found = cause_of(OSError(f"{folder}/config.json is broken " + "x" * 1000), folder)
    assert str(tmp_path) not in found
    assert found.startswith("OSError: rm/config.json is broken")
    assert len(found) < 400


def test_an_error_without_words_is_named() -> None:
    assert cause_of(KeyError()) == "KeyError"


def test_a_model_that_is_not_in_the_cache_offline_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelRefused, match=r"not a folder.*HF_HUB_CACHE.*give the model's folder"):
        load_reward_model("nobody/nothing", device="cpu")


def test_a_device_that_does_not_exist_is_a_refusal_with_its_cause(tmp_path: Path) -> None:
    from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

    folder = save_tiny(tmp_path / "rm", tiny_llama(), tiny_tokenizer())
    with pytest.raises(ModelRefused, match=r"cannot be moved to cuda:99: [A-Z]"):
        load_reward_model(str(folder), device="cuda:99", dtype="float32")
