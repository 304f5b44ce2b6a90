"""The OpenAPI document: every route has an example of the type that it answers with."""

from __future__ import annotations

import json

from candor.http import examples
from candor.http.answers import Alive, ModelList, ProbeList, Readiness, Version
from candor.http.document import document
from candor.watch.drift_reference import DriftReference
from candor.watch.drift_report import DriftReport


def test_every_route_has_an_example_of_its_body_and_of_its_answer() -> None:
    paths = json.loads(document())["paths"]
    assert len(paths) > 20
    for path, operations in paths.items():
        for method, operation in operations.items():
            contents = [*operation["responses"]["200"]["content"].values()]
            if method == "post":
                contents += operation["requestBody"]["content"].values()
            assert all("example" in one or "examples" in one for one in contents), path


def test_the_examples_of_the_get_routes_are_of_their_types() -> None:
    for kind, value in (
        (Alive, examples.ALIVE),
        (Readiness, examples.READY),
        (Readiness, examples.LOADING),
        (ModelList, examples.MODELS),
        (ProbeList, examples.PROBES),
        (DriftReport, examples.DRIFT),
        (DriftReference, examples.REFERENCE),
        (Version, examples.VERSION),
    ):
        kind.model_validate_json(json.dumps(value), strict=True)
