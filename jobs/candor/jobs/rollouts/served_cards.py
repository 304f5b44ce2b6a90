"""The cards of the probes that a scored file was scored with, from the manifest beside it.

`candor score` keeps what the server said of its probes in `<scored>.manifest.json`. By that, kappa
offline is the same lambda as on that server, and a file that holds the scores of another probe of
the same name is told from one that does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from candor.jobs.running.exits import UsageError
from candor.jobs.running.files import file_sha256
from candor.jobs.running.manifest import manifest_path

if TYPE_CHECKING:
    from candor.probes.card import Card


def served_card(scored: Path, name: str) -> Card:
    """The card of the probe that was served as `name`.

    Raises:
        UsageError: no manifest, one of another file, or one without this card.
    """
    from pydantic import ValidationError

    from candor.probes.card import Card

    path = manifest_path(scored)
    try:
        manifest: Any = orjson.loads(path.read_bytes())
        of = manifest["output"]["sha256"]
        served = {one["name"]: one["card"] for one in manifest["server"]["probes"]["probes"]}
        card = Card.model_validate_json(orjson.dumps(served[name]))
    except FileNotFoundError:
        raise UsageError(
            f"{path}: is missing, so the served probes' cards are not known; it is written beside "
            "the scores by `candor score`: keep the two together"
        ) from None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError) as error:
        raise UsageError(
            f"{path}: does not hold the card of probe {name!r} as `candor score` writes it "
            f"({type(error).__name__}): score the rows again"
        ) from None
    if of != file_sha256(scored):
        raise UsageError(
            f"{path}: is the manifest of another file than {scored} (its sha256 differs): "
            "score the rows again"
        )
    return card
