"""docs/http.md says what docs/openapi.json says, which another test compares with the live app."""

from __future__ import annotations

import json

from candor.http.edge import KEYLESS_PATHS, OPERATOR_PATHS
from docsite.routes import routes_page, type_of
from tests.paths import ROOT

DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))


def test_the_page_is_what_the_document_says() -> None:
    page = (ROOT / "docs" / "http.md").read_text("utf-8")
    assert page == routes_page(DOCUMENT), "run make references"


def test_every_route_and_every_field_of_a_request_is_on_the_page() -> None:
    page = routes_page(DOCUMENT)
    for path, methods in DOCUMENT["paths"].items():
        for method in methods:
            (row,) = (
                line for line in page.splitlines() if f"| `{method.upper()} {path}` |" in line
            )
            key = (
                "none" if path in KEYLESS_PATHS else "operator" if path in OPERATOR_PATHS else "api"
            )
            assert row.split(" | ")[1] == key
    for field in DOCUMENT["components"]["schemas"]["RewardRequest"]["properties"]:
        assert f"| `{field}` |" in page


def test_a_type_is_said_in_words() -> None:
    assert type_of({"$ref": "#/components/schemas/Usage"}) == "[Usage](#usage)"
    assert type_of(
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 9}
    ) == ("list of string, 1 to 9")
    assert type_of({"anyOf": [{"enum": ["a"]}, {"type": "null"}]}) == '`"a"` or null'
    assert type_of({"type": "number", "exclusiveMinimum": 0, "maximum": 5}) == (
        "number, above 0, at most 5"
    )
    assert type_of({"type": "object", "additionalProperties": {"type": "number"}}) == (
        "object of number by name"
    )
