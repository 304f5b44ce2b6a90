"""What a reader can count on in every source file: short functions, a name for one thing, small
folders (docs/design.md)."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.modules import MODULES
from tests.paths import ROOT

MAX_LINES = 60
"""Lines of one function, its docstring included."""
MAX_FILES = 12
"""Source files of one folder, beside `__init__.py`."""


TESTS = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "tests").rglob("*.py"))}


def definitions(
    *kinds: type[ast.AST], files: Mapping[str, Path] = MODULES
) -> Iterator[tuple[str, ast.AST]]:
    """(module, definition) of every function or class of ours."""
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds):
                yield name, node


def length(node: ast.AST) -> int:
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_long() -> None:
    functions = [*definitions(ast.FunctionDef, ast.AsyncFunctionDef, files={**MODULES, **TESTS})]
    assert len(functions) > 1000
    assert any(module.startswith("tests/") for module, _ in functions)
    found = {
        f"{module}:{getattr(node, 'name', '')}": length(node)
        for module, node in functions
        if length(node) > MAX_LINES
    }
    assert found == {}


def test_a_class_name_means_one_thing() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for module, node in definitions(ast.ClassDef):
        homes[getattr(node, "name", "")].append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_no_folder_is_crowded() -> None:
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in {path.parent for path in MODULES.values()}
        if (count := len([p for p in folder.glob("*.py") if p.name != "__init__.py"])) > MAX_FILES
    }
    assert crowded == {}
