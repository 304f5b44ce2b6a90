"""The cards of the probes that served a scored file, from the manifest beside that file.

`candor score` stores the server's cards in `<scored>.manifest.json`. They make kappa the same
lambda offline as on that server, and they tell apart two probes of the same name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from candor.flags import UsageError
from candor.jobs.running.files import file_sha256
from candor.jobs.running.manifest import manifest_path
from candor.probes import jsonl
from candor.probes.card import Card


def served_card(scored: Path, name: str) -> Card:
    """The card of the probe that was served as `name`.

    Raises:
        UsageError: the manifest is missing, belongs to another file, or lacks this card.
    """
    path = manifest_path(scored)
    try:
        manifest: Any = jsonl.document(path)
        output_sha256 = manifest["output"]["sha256"]
        served = {probe["name"]: probe["card"] for probe in manifest["server"]["probes"]["probes"]}
        card = Card.model_validate_json(orjson.dumps(served[name]))
    except FileNotFoundError:
        raise UsageError(
            f"{path}: is missing, so the served probes' cards are not known; `candor score` writes "
            "it beside the scores: keep the two files together"
        ) from None
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise UsageError(
            f"{path}: does not hold the card of probe {name!r} as `candor score` writes it "
            f"({type(error).__name__}): score the rows again"
        ) from None
    if output_sha256 != file_sha256(scored):
        raise UsageError(
            f"{path}: is the manifest of another file than {scored} (the sha256 differs): "
            "score the rows again"
        )
    return card


def known_cards(scored: Path, names: Iterable[str]) -> tuple[dict[str, Card], str | None]:
    """The cards of the probes `names`, for a page; none, and the reason, where they are not known:
    then the page has no kappa and no scale for tokens."""
    try:
        return {name: served_card(scored, name) for name in names}, None
    except UsageError as error:
        return {}, str(error)


def served_nulls(scored: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """The null probes among the probes `names`, by kind (`candor probe null`).

    Without the manifest nothing is known of a probe but its name. That is said on stderr where the
    rows have several probes, because an arm may be missing.
    """
    found: dict[str, list[str]] = {}
    names = list(names)
    if not manifest_path(scored).exists():
        if len(names) > 1:
            print(
                f"candor: {manifest_path(scored)}: is missing, so it is not known whether one of "
                f"the probes {', '.join(names)} is a null probe",
                file=sys.stderr,
            )
        return found
    for name in names:
        null = served_card(scored, name).metrics.get("null")
        if null is not None:
            found.setdefault(str(null["kind"]), []).append(name)
    return found
