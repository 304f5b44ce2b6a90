"""Writes docs/http.md from the OpenAPI document: `make references`.

    python -m docsite.routes docs/openapi.json docs/http.md

docs/api.md says what the routes mean and promise; this page lists every route, field and type.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from candor.http.edge import KEYLESS_PATHS, OPERATOR_PATHS

HEAD = Path(__file__).with_name("routes_head.md").read_text("utf-8")
ERRORS = {"ErrorDetail", "ErrorEnvelope", "HTTPValidationError", "ValidationError"}
"""Schemas of errors; docs/api.md has the table."""
SCHEMAS = "#/components/schemas/"
RULE = "| --- | --- | --- | --- | --- |"


def routes_page(document: dict[str, Any]) -> str:
    """The text of docs/http.md."""
    schemas = document["components"]["schemas"]
    lines = [
        "## Routes\n",
        "| route | key | for | body | answer |",
        "| --- | --- | --- | --- | --- |",
    ]
    for path, methods in sorted(document["paths"].items()):
        lines += [_route(method, path, route) for method, route in methods.items()]
    lines.append("\n## Fields\n")
    for name in sorted(schemas.keys() - ERRORS):
        lines += _schema(name, schemas[name])
    return HEAD + "\n".join(lines).rstrip("\n") + "\n"


def _route(method: str, path: str, route: dict[str, Any]) -> str:
    key = "none" if path in KEYLESS_PATHS else "operator" if path in OPERATOR_PATHS else "api"
    body = _content(route.get("requestBody", {}))
    answer = _content(route["responses"]["200"])
    cells = (f"`{method.upper()} {path}`", key, route["summary"], body, answer)
    return f"| {' | '.join(cells)} |"


def _content(body: dict[str, Any]) -> str:
    """The types of a body, and the kinds of content that are not JSON."""
    found = []
    for kind, content in body.get("content", {}).items():
        if kind != "application/json":
            found.append(f"`{kind}`")
        elif content.get("schema"):
            found.append(type_of(content["schema"]))
        else:
            found.append("JSON of that client")
    return " or ".join(found)


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if schema.get("description"):
        yield _line(schema["description"]) + "\n"
    if not schema.get("properties"):
        yield f"{type_of(schema)}\n"
        return
    yield "| field | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    required = schema.get("required", ())
    for field, of in schema["properties"].items():
        default = "required" if field in required else ""
        if "default" in of:
            default = f"`{json.dumps(of['default'])}`"
        words = _line(of.get("description", ""))
        yield f"| `{field}` | {type_of(of)} | {default} | {words} |"
    yield ""


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def type_of(schema: dict[str, Any]) -> str:
    """A schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(SCHEMAS)
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}{_range(schema, 'Items')}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {type_of(schema['additionalProperties'])} by name"
    return str(schema.get("type", "any")) + _range(schema, "Length") + _bounds(schema)


def _range(schema: dict[str, Any], of: str) -> str:
    least, most = schema.get(f"min{of}"), schema.get(f"max{of}")
    if most is None:
        return "" if not least else f", {least} or more"
    return f", {least or 0} to {most}"


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return "".join(f", {word} {schema[name]:g}" for name, word in words.items() if name in schema)


if __name__ == "__main__":
    source, page = map(Path, sys.argv[1:])
    page.write_text(routes_page(json.loads(source.read_text("utf-8"))), encoding="utf-8")
