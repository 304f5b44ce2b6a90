"""The cards of the probes that served a scored file, from the manifest beside that file.

`candor score` stores the server's cards in `<scored>.manifest.json`. They make kappa the same
lambda offline as on that server, and they tell apart two probes of the same name.
"""

from __future__ import annotations

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
