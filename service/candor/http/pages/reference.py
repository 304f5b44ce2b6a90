"""`/docs`: the routes with their bodies and answers, as one page made of the OpenAPI document.

FastAPI's own page loads its script from another host, and so is blank where there is no network.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from candor.http.pages.inspector import page_headers
from candor.http.state import get_state
from candor.page import render
from candor.page.render import policy

router = APIRouter(include_in_schema=False)

TEMPLATE = Path(render.__file__).parent / "templates" / "reference.html.j2"
Json = Mapping[str, Any]


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The page of the running app's document."""
    document = request.app.openapi()
    return Response(
        _page(json.dumps(document), get_state(request).settings.serves_inspector),
        media_type="text/html; charset=utf-8",
        headers=dict(page_headers(policy(live=True))),
    )


@cache
def _page(document: str, inspector: bool) -> str:
    return reference(json.loads(document), inspector=inspector)


def reference(document: Json, *, inspector: bool = True) -> str:
    """The page of an OpenAPI document.

    Args:
        inspector: whether the server has an inspector that the page can lead to.
    """
    return render.render(
        TEMPLATE,
        live=True,
        inspector=inspector,
        info=document["info"],
        routes=list(_routes(document)),
        types=list(_types(document["components"]["schemas"])),
    )


def _routes(document: Json) -> Iterator[dict[str, Any]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bodies = _examples(operation.get("requestBody", {}).get("content", {}))
            yield {
                "method": method.upper(),
                "path": path,
                "anchor": f"{method}-{path.strip('/').replace('/', '-') or 'root'}",
                "summary": operation.get("summary", ""),
                "description": operation.get("description", ""),
                "operator": "operator" in operation.get("tags", ()),
                "parameters": [
                    {"description": "", **one} for one in operation.get("parameters", ())
                ],
                "bodies": [
                    {"name": name, "example": _shown(value), "curl": _curl(path, value)}
                    for name, value in bodies
                ],
                "curl": None if bodies else _curl(path, None),
                "answers": [
                    {"status": status, **_answer(answer, document)}
                    for status, answer in operation["responses"].items()
                ],
            }


def _answer(answer: Json, document: Json) -> dict[str, Any]:
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    examples = _examples(answer.get("content", {}))
    return {
        "description": answer.get("description", ""),
        "examples": [{"name": name, "example": _shown(value)} for name, value in examples],
    }


def _examples(content: Json) -> list[tuple[str, Any]]:
    """(name, value) of each example of a body, of any media type."""
    found: list[tuple[str, Any]] = []
    for body in content.values():
        if "example" in body:
            found.append(("", body["example"]))
        found += [(name, one["value"]) for name, one in body.get("examples", {}).items()]
    return found


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)


def _curl(path: str, body: Any) -> str:
    command = ["curl", "-s", f"http://127.0.0.1:8000{path}"]
    if body is not None:
        data = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        command += ["-H", "Content-Type: application/json", "-d", data]
    return shlex.join(command)


def _types(schemas: Mapping[str, Json]) -> Iterator[dict[str, Any]]:
    """The fields of every type that has fields."""
    for name, schema in sorted(schemas.items()):
        if not schema.get("properties"):
            continue
        required = set(schema.get("required", ()))
        yield {
            "name": name,
            "description": schema.get("description", ""),
            "fields": [
                {
                    "name": field,
                    "type": _type(one),
                    "required": field in required,
                    "description": one.get("description", ""),
                }
                for field, one in schema["properties"].items()
            ],
        }


def _type(schema: Json) -> str:
    """A schema in one line, such as `list of Token or null`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[several]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return kind if isinstance(kind, str) else " or ".join(kind)
