"""The compose files as compose would merge them, for what they use; no Docker."""

from __future__ import annotations

import copy
import re
from typing import Any

import yaml

from tests.paths import ROOT

KINDS = ("gpu", "cpu")


class Reset:
    """A key that an override takes away (`!reset`)."""


class Override(list[Any]):
    """A list that an override puts in place of the base's (`!override`)."""


class Loader(yaml.SafeLoader):
    """YAML with compose's own tags."""


Loader.add_constructor("!reset", lambda loader, node: Reset())
Loader.add_constructor("!override", lambda loader, node: Override(loader.construct_sequence(node)))


def merge(base: Any, override: Any) -> Any:
    """Mappings key by key, a command replaced whole; any other list says how it is meant."""
    if not (isinstance(base, dict) and isinstance(override, dict)):
        return list(override) if isinstance(override, Override) else override
    merged = copy.deepcopy(base)
    for key, value in override.items():
        if isinstance(value, Reset):
            merged.pop(key, None)
        else:
            if isinstance(value, list) and key not in ("command", "entrypoint"):
                assert isinstance(value, Override), f"{key}: compose would append this list"
            merged[key] = merge(merged.get(key), value)
    return merged


def read(name: str) -> dict[str, Any]:
    """A YAML file of the repository; `${NAME:-default}` is its default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / name).read_text())
    return dict(yaml.load(text, Loader))  # noqa: S506 (a SafeLoader)


def stack(kind: str) -> dict[str, Any]:
    """The merged file: `gpu` as it is, `cpu` with the override."""
    stock = read("docker-compose.yml")
    return stock if kind == "gpu" else merge(stock, read("docker-compose.cpu.yml"))
