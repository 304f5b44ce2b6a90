"""A model folder's files: what is refused before anything is loaded, and what its weights hold.

A model folder is somebody else's: it may hold code, pickles, links and a half-written index. All
of that is refused here, by name. Reads JSON and the headers of safetensors files, never weights; a
pickle is turned into safetensors by `candor model convert`, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

VALUE_HEAD = "value_head.safetensors"
"""LLaMA-Factory keeps a TRL value head in this file, beside the causal LM's own weights
(src/llamafactory/extras/constants.py)."""


class ModelRefused(ValueError):
    """The model cannot or must not be served; the message is one line with the reason."""


def refuse_links_out(folder: Path) -> None:
    """A link that leaves a local folder would make its contents depend on who runs the server.

    Snapshots of the hub's cache are links by design, so this is for folders that were given by
    path.
    """
    root = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ModelRefused(f"{path.name} is a link that leaves the model folder; copy the file")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as it is written, once code, pickles and adapters are known not to be there."""
    raw = read_json(folder / "config.json")
    if raw is None:
        raise ModelRefused("no config.json: this is not a transformers model folder")
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in (read_json(folder / name) or {}):
            raise ModelRefused(f"{name} has an auto_map: the model brings code, which is never run")
    names = sorted(path.name for path in folder.rglob("*") if path.is_file())
    if code := [name for name in names if name.endswith(".py")]:
        raise ModelRefused(
            f"the folder holds Python code ({code[0]}), which is never run: remove it"
        )
    if "adapter_config.json" in names:
        raise ModelRefused(
            "the folder holds an adapter; merge it into its base model and save that"
        )
    if not any(path.suffix == ".safetensors" for path in folder.iterdir()):
        if pickles := [name for name in names if name.endswith(PICKLES)]:
            raise ModelRefused(
                f"the weights are a pickle ({pickles[0]}); make safetensors of them with "
                "'candor model convert'"
            )
        raise ModelRefused("the folder holds no safetensors weights")
    return raw


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when there is no file."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelRefused(f"{path.name} is not JSON") from error
    if not isinstance(value, dict):
        raise ModelRefused(f"{path.name} is not a JSON object")
    return value


@dataclass(frozen=True, slots=True)
class Tensors:
    """What a folder's weights hold, by name: the file and the shape of each tensor."""

    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read(self, name: str) -> Tensor:
        """One tensor, in the dtype it is stored in."""
        with safe_open(self.files[name], framework="pt") as file:
            return file.get_tensor(name)  # type: ignore[no-any-return]


def read_tensors(folder: Path) -> Tensors:
    """From the headers of the files that hold the weights; other safetensors files are left alone.

    Raises:
        ModelRefused: no weights under transformers' names, an index that names a file elsewhere,
            or a file that is not whole.
    """
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  not a dict
                    files[name] = path
                    shapes[name] = tuple(file.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            reason = type(error).__name__
            raise ModelRefused(f"the weights do not load ({path.name}: {reason})") from error
    return Tensors(files, shapes)


def _weight_files(folder: Path) -> list[Path]:
    index = read_json(folder / INDEX)
    names = (
        {WEIGHTS} if index is None else set(map(str, dict(index.get("weight_map", {})).values()))
    )
    here = {path.name for path in folder.iterdir()}
    # Only files of the folder itself go into the weights' sha256.
    if strangers := sorted(names - here):
        if index is None:
            raise ModelRefused(f"the folder holds neither {WEIGHTS} nor {INDEX}")
        raise ModelRefused(f"the weights' index names {strangers[0]}, not a file of the folder")
    return [folder / name for name in sorted(names | ({VALUE_HEAD} & here))]
