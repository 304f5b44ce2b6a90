"""The compose files as compose would merge and expand them, for what they use; no Docker.

`test_real_compose` holds this against the real Docker Compose where it is installed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.paths import ROOT

KINDS = ("gpu", "cpu")
FILES = {
    "gpu": ("docker-compose.yml",),
    "cpu": ("docker-compose.yml", "docker-compose.cpu.yml"),
}

_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


class Reset:
    """A key that an override takes away (`!reset`)."""


class Override(list[Any]):
    """A list that an override puts in place of the base's (`!override`)."""


class Loader(yaml.SafeLoader):
    """YAML with compose's own tags."""


Loader.add_constructor("!reset", lambda loader, node: Reset())
Loader.add_constructor(
    "!override", lambda loader, node: Override(loader.construct_sequence(node, deep=True))
)


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


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME:-default}` as compose expands it: an empty value counts as none."""
    text = _VARIABLE.sub(lambda found: variables.get(found[1]) or found[2], text)
    for line in text.splitlines():
        assert "$" not in line.partition("#")[0], f"another form of variable: {line}"
    return text


def variables(kind: str) -> dict[str, str]:
    """Every variable in the compose files, with its default."""
    found: dict[str, str] = {}
    for name in FILES[kind]:
        for variable, default in _VARIABLE.findall((ROOT / name).read_text()):
            if variable != "NAME":  # the example in a comment
                assert found.setdefault(variable, default) == default, variable
    return found


def read(name: str, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A YAML file of the repository, with these variables."""
    text = interpolate((ROOT / name).read_text(), settings or {})
    return dict(yaml.load(text, Loader))  # noqa: S506 (a SafeLoader)


def stack(kind: str, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The merged file: `gpu` as it is, `cpu` with the override. Environments are texts."""
    merged, *overrides = (read(name, settings) for name in FILES[kind])
    for override in overrides:
        merged = merge(merged, override)
    for service in merged["services"].values():
        environment = service.get("environment", {})
        service["environment"] = {name: str(value) for name, value in environment.items()}
    return merged


def binds(service: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What of the host a service mounts, by path on the host; named volumes are left out."""
    mounts = [mount for mount in service.get("volumes", []) if not isinstance(mount, str)]
    return {mount["source"]: mount for mount in mounts}
