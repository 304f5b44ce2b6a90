"""R and S of candidates under one probe: read from a scored file, or scored here.

    rollouts + model  scored by the server's own renderer and engine, in this process
    scored file       checked to be from the same weights and the same probe

Responses that the server refused or would refuse (no text, too long) are left out and counted.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from candor.batching.queue import take_batch
from candor.client.rows import Unscorable, unicode_text
from candor.client.schema import RewardItem
from candor.engines.choose import EngineName, build_engine
from candor.errors import CandorError
from candor.flags import UsageError
from candor.item import Engine, Item
from candor.jobs.rollouts.scored import Array, context_of, one_model, read_group, scored_rows
from candor.jobs.rollouts.served_cards import served_card
from candor.jobs.running.files import Row, read_input, source_sha256
from candor.jobs.running.progress import progress, say
from candor.models.load import RewardModel, load_reward_model
from candor.probes.artifact import LoadedProbe
from candor.probes.card import Card
from candor.probes.faults import first_fault
from candor.text.render import Renderer
from candor.text.request import scoring_context

log = logging.getLogger(__name__)

MAX_BATCH_TOKENS = 8192
"""Most tokens in one forward pass; the server's default."""

CANDIDATES = "candidates"
"""What the source of a calibration on candidates begins with, on the card."""

CONTEXT = ("messages", "tools", "prompt", "templated")
"""The fields of a row that are its context, as on the wire."""


@dataclass(frozen=True)
class CandidateScores:
    """R, S and context of every candidate that has scores."""

    rewards: Array
    scores: Array
    contexts: Sequence[str]
    num_left_out: int
    """Number of failed rows and of responses without a score."""
    source: str
    """Where the candidates come from, for the card."""


@dataclass(frozen=True)
class TokenisedCandidates:
    """Candidates as token ids, with the reward model that will read them.

    `items` and `contexts` are equally many; `num_left_out` counts failed rows, and responses that
    cannot be scored.
    """

    rm: RewardModel
    items: Sequence[Item]
    contexts: Sequence[str]
    num_left_out: int


def read_scores(scored: Path, card: Card) -> CandidateScores:
    """The candidates of a scored file.

    Raises:
        UsageError: the file is not as `candor score` writes it, is from another reward model, or
            has no scores of this very probe.
    """
    rows = read_input(scored)
    good = scored_rows(rows)
    served = one_model(scored, good)
    revision = served["revision"]
    if revision != card.model.weights_sha256:
        raise UsageError(
            f"{scored}: was scored by other weights ({revision[:12]}) than the probe's "
            f"({card.model.weights_sha256[:12]}): score with the model the probe was fitted on"
        )
    if "project" in served.get("methods", {}).values():
        raise UsageError(
            f"{scored}: was scored with --method project, so R is that of a projected model: score "
            "on a server without it"
        )
    rewards: list[float] = []
    scores: list[float] = []
    contexts: list[str] = []
    for row in good:
        group = read_group(scored, row)
        if group is None:
            continue
        if card.name not in group.scores:
            choices = ", ".join(group.scores) or "none"
            raise UsageError(
                f"{scored}: key {row['key']!r} has no scores of probe {card.name!r} (it has: "
                f"{choices}): serve the probe, not as a monitor, and score again"
            )
        rewards += group.base_reward.tolist()
        scores += group.scores[card.name].tolist()
        contexts += [context_of(row)] * len(group.base_reward)
    _check_same_probe(scored, card)
    num_failed = sum(len(row["scores"]) for row in good) - len(contexts)
    return CandidateScores(
        np.array(rewards),
        np.array(scores),
        contexts,
        len(rows) - len(good) + num_failed,
        source_of(scored),
    )


def _check_same_probe(scored: Path, card: Card) -> None:
    """The served probe's card may differ from `card` only in the fields that calibration writes."""
    ours, served = (
        each.model_dump(exclude={"bound", "calibration"})
        for each in (card, served_card(scored, card.name))
    )
    if differs := [name for name in ours if ours[name] != served[name]]:
        raise UsageError(
            f"{scored}: was scored with another probe of the name {card.name!r}: its card differs "
            f"in {', '.join(differs)}; serve this probe and score again"
        )


def score_rollouts(
    rollouts: Path,
    model: str,
    loaded: LoadedProbe,
    device: str,
    dtype: Literal["auto", "float32", "bfloat16", "float16"],
    engine: EngineName,
) -> CandidateScores:
    """The candidates, scored by the server's own renderer and engine.

    Raises:
        ValueError: the model is refused, or the probe belongs to another model.
        UsageError: the file cannot be read.
    """
    found = read_candidates(rollouts, model, loaded.card, device, dtype)
    rm, items, contexts = found.rm, found.items, found.contexts
    num_left_out = found.num_left_out
    reader = build_engine(engine, rm.model, [loaded.probe], device=rm.device)
    pairs = list(_scores(reader, items, loaded.card.name))
    finite = _finite(rollouts, pairs)
    num_left_out += len(pairs) - len(finite)
    contexts = [contexts[n] for n in finite]
    columns = np.array([pairs[n] for n in finite], dtype=np.float64).reshape(-1, 2)
    rewards, scores = columns.T
    return CandidateScores(rewards, scores, contexts, num_left_out, source_of(rollouts))


def read_candidates(
    rollouts: Path,
    model: str,
    card: Card,
    device: str,
    dtype: Literal["auto", "float32", "bfloat16", "float16"],
) -> TokenisedCandidates:
    """The reward model, and the candidates as the server would read them.

    Args:
        card: of the probe that the model must belong to.

    Raises:
        ValueError: the model is refused, or the probe belongs to another model.
        UsageError: the file cannot be read.
    """
    rows = read_input(rollouts)
    dated = card.template_date
    say(f"loading the reward model {model}")
    rm = load_reward_model(
        model,
        device=device,
        dtype=dtype,
        template_date=None if dated is None else date.fromisoformat(dated),
    )
    remark = rm.check_probe(card)
    if remark is not None:
        log.warning("%s", remark)
    renderer = rm.renderer()
    items: list[Item] = []
    contexts: list[str] = []
    num_left_out = 0
    for row in rows:
        for item in _items(row, renderer):
            if isinstance(item, str):
                if not num_left_out:
                    print(
                        f"candor: {rollouts}: key {row['key']!r} is left out: {item}",
                        file=sys.stderr,
                    )
                num_left_out += 1
                continue
            items.append(item)
            contexts.append(context_of(row))
    return TokenisedCandidates(rm, items, contexts, num_left_out)


def _finite(rollouts: Path, pairs: Sequence[tuple[float, float]]) -> list[int]:
    """The places of the pairs of finite numbers; says on stderr how many others there are."""
    finite = [n for n, pair in enumerate(pairs) if all(map(math.isfinite, pair))]
    if len(finite) < len(pairs):
        print(
            f"candor: {rollouts}: {len(pairs) - len(finite)} of {len(pairs)} responses have a "
            "score that is not finite and are left out; float16 overflows in some models: try "
            "--dtype bfloat16 or float32",
            file=sys.stderr,
        )
    return finite


def _items(row: Row, renderer: Renderer) -> Iterator[Item | str]:
    """Every response of a row; in place of one that cannot be scored, and of a row that failed or
    is malformed, the reason."""
    if "error" in row:
        yield "the row has an error"
        return
    responses = row.get("responses")
    if not isinstance(responses, list):
        yield "'responses' is not a list"
        return
    try:
        item = RewardItem.model_validate(
            {name: row[name] for name in CONTEXT if name in row} | {"responses": [""]}
        )
    except ValidationError as error:
        yield f"not as `candor generate` writes it: {first_fault(error, 'row')}"
        return
    for place, response in enumerate(responses):
        text = response.get("text") if isinstance(response, dict) else None
        if not isinstance(text, str):
            yield f"response {place} is not an object with a 'text'"
            continue
        try:
            yield renderer.encode(scoring_context(item), unicode_text(text, "the response"))
        except (CandorError, Unscorable) as error:
            yield f"response {place}: {error.message}"


def _scores(engine: Engine, items: Sequence[Item], name: str) -> Iterator[tuple[float, float]]:
    """(R, S) of every item, in order."""
    done = 0
    with progress(len(items), "scores", "response") as bar:
        while done < len(items):
            batch = take_batch(islice(items, done, None), MAX_BATCH_TOKENS, engine.costs)
            for score in engine.score(batch).scores:
                yield score.base_reward, score.readings[name].score
            done += len(batch)
            bar.update(len(batch))


def source_of(path: Path) -> str:
    """Where candidates come from, for a card."""
    return f"{CANDIDATES} in {path.name}, sha256 {source_sha256(path)}"
