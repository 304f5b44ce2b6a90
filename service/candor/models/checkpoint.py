"""Checks a model folder's files before anything is loaded, and lists the tensors of its weights.

A model folder comes from strangers: it may hold code, pickles, links and a half-written index. What
is dangerous, or would make the reward another one, is refused here, and the message names the file.
Code that merely lies in the folder is harmless, since nothing here imports it. Only JSON and the
headers of safetensors files are read. `candor model convert` is the only code that turns a pickle
into safetensors.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor

from candor.models.causes import cause_of

log = logging.getLogger(__name__)

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

VALUE_HEAD_FILE = "value_head.safetensors"
"""LLaMA-Factory saves a TRL value head in this file, beside the causal LM's own weights
(src/llamafactory/extras/constants.py)."""


class ModelRefused(ValueError):
    """The model cannot or must not be served; the message is the reason, in one line."""


def refuse_links_out(folder: Path) -> None:
    """Refuses a link that leaves a local folder: what it points to depends on the machine.

    A snapshot in the hub's cache (models--OWNER--NAME/snapshots/COMMIT) is links into the `blobs`
    folder beside it by design; such links are allowed.
    """
    root = folder.resolve()
    allowed = [root]
    if snapshot_name(folder) is not None:
        allowed.append(root.parent.parent / "blobs")
    for path in folder.rglob("*"):
        if not path.is_symlink():
            continue
        target = path.resolve()
        if not any(target.is_relative_to(one) for one in allowed):
            raise ModelRefused(f"{path.name} is a link that leaves the model folder; copy the file")
        if not target.exists():
            raise ModelRefused(
                f"{path.name} is a link to a file that is missing: the download is incomplete"
            )


def snapshot_name(folder: Path) -> str | None:
    """OWNER/NAME of a snapshot in the hub's cache; None for any other folder."""
    snapshots = folder.resolve().parent
    kind, _, name = snapshots.parent.name.partition("--")
    if snapshots.name != "snapshots" or kind != "models" or not name:
        return None
    return name.replace("--", "/")


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of config.json; refuses a folder that needs code, with an adapter, or with
    pickles alone."""
    raw = read_json(folder / "config.json")
    if raw is None:
        raise ModelRefused("no config.json: this is not a transformers model folder")
    for name in ("config.json", "tokenizer_config.json"):
        _refuse_needed_code(name, (read_json(folder / name) or {}).get("auto_map"))
    names = sorted(path.name for path in folder.rglob("*") if path.is_file())
    # transformers loads an adapter that lies beside the weights by itself, on top of them.
    if (folder / "adapter_config.json").is_file():
        raise ModelRefused(
            "the folder holds an adapter; merge it into its base model and save that"
        )
    if not any(path.suffix == ".safetensors" for path in folder.iterdir()):
        if pickles := [name for name in names if name.endswith(PICKLE_SUFFIXES)]:
            raise ModelRefused(
                f"the weights are a pickle ({pickles[0]}); convert them to safetensors with "
                "'candor model convert'"
            )
        raise ModelRefused("the folder holds no safetensors weights")
    return raw


def _refuse_needed_code(file: str, auto_map: Any) -> None:
    """Refuses an auto_map that names a class which transformers does not have.

    Fine-tunes of models that came to the hub before they came to transformers (Phi-3, for example)
    keep an auto_map of their first days. Its classes are transformers' own by now, and these are
    used. Any other class computes something that only the folder's code can say.
    """
    if auto_map is None:
        return
    if not isinstance(auto_map, dict):
        raise ModelRefused(f"{file}: its auto_map is not a JSON object")
    for value in auto_map.values():
        for reference in value if isinstance(value, list | tuple) else [value]:
            if reference is None:
                continue
            name = str(reference).rpartition(".")[2]
            if not isinstance(getattr(transformers, name, None), type):
                raise ModelRefused(
                    f"{file} has an auto_map that names {name}, which transformers does not have: "
                    "the model needs the code that it brings, which is never run"
                )
    log.warning(
        "%s has an auto_map (%s): the code it names is not run, transformers' own classes of the "
        "same names are used",
        file,
        ", ".join(sorted(map(str, auto_map))),
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no file."""
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
    """The tensors of a folder's weights: name -> file, and name -> shape."""

    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read(self, name: str) -> Tensor:
        """One tensor, in its stored dtype."""
        with safe_open(self.files[name], framework="pt") as file:
            return file.get_tensor(name)  # type: ignore[no-any-return]


def read_tensors(folder: Path) -> Tensors:
    """Reads the headers of the files that hold the weights; other safetensors files are ignored.

    Raises:
        ModelRefused: there are no weights under transformers' file names, the index names a file
            outside the folder, or a file is incomplete.
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
            reason = cause_of(error, folder)
            raise ModelRefused(f"the weights do not load ({path.name}: {reason})") from error
    return Tensors(files, shapes)


def _weight_files(folder: Path) -> list[Path]:
    index = read_json(folder / INDEX_FILE)
    names = {WEIGHTS_FILE}
    if index is not None:
        names = set(map(str, dict(index.get("weight_map", {})).values()))
    present = {path.name for path in folder.iterdir()}
    # The weights' sha256 covers only files of the folder itself.
    if missing := sorted(names - present):
        if index is None:
            raise ModelRefused(f"the folder holds neither {WEIGHTS_FILE} nor {INDEX_FILE}")
        raise ModelRefused(f"the weights' index names {missing[0]}, not a file of the folder")
    return [folder / name for name in sorted(names | ({VALUE_HEAD_FILE} & present))]
