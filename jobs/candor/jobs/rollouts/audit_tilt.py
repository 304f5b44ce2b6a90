"""`candor audit tilt`: how far a reward model favours responses with a flag.

The report covers each data set: a scored file or, with `--by`, the rows with one value of a field.
It states mean R of the flagged responses minus mean R of the others, over all responses and within
the chosen and the rejected responses. A reward that follows quality alone may differ over all
responses, because better responses may carry the flag more often. Within the chosen alone, or the
rejected alone, it should not differ (the conditional form of Causal Rewards, arXiv 2501.09620).

It also states, over prompts, the share that an optimiser of strength beta would push towards the
flag, and the penalty lambda*(x) that would undo this (`candor.probes.tilt`).

The field "chosen" of a response, true or false, says which response was preferred; `candor score`
writes it for preference pairs. Without it the report has no parts for chosen and rejected. R is the
base reward, without penalties.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.rollouts.response_flags import ResponseFlag, parse_response_flag
from candor.jobs.rollouts.scored import (
    candidates,
    context_of,
    field_of,
    one_model,
    read_group,
    say_doubts,
    scored_rows,
)
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import Row, read_input, write_json
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.running.rows import check_paths
from candor.probes.fitting.calibrate import within_std
from candor.probes.statistics.intervals import NUM_RESAMPLES
from candor.probes.statistics.tilt_figures import prompt_tilt, reward_gap


@Parameter(name="*")
@dataclass(frozen=True)
class TiltOptions:
    """The options of `candor audit tilt`."""

    scored: Annotated[list[Path], Parameter(negative="")]
    """JSONL written by `candor score`; each file is a data set. May be repeated."""
    _: KW_ONLY
    flag: str
    """Which responses are flagged: contains:TEXT, probe:NAME>THRESHOLD (the score of probe NAME is
    above THRESHOLD, in logits), field:NAME (that field of the response is true) or verdict:VERDICT
    (the judge's verdict on the response)."""
    out: Path
    """JSON to write: for each data set the difference in R (the reward model's score) between
    flagged and other responses, and the share of prompts whose flagged responses an optimiser would
    favour, with 95 % intervals over prompts."""
    beta: float = 1.0
    """Strength of the optimiser: an inverse temperature, in 1 / reward units."""
    by: str | None = None
    """A field of the rows, such as meta.source: each of its values is a data set, in place of each
    file."""
    seed: int = 0
    """Seed of the bootstrap interval."""


@command
def audit_tilt(options: TiltOptions) -> Exit:
    """How far R favours a flag: reward gap, tilted prompts, and the penalty that would undo it."""
    started = now()
    for path in options.scored:
        check_paths(path, options.out)
    if not (np.isfinite(options.beta) and options.beta > 0):
        raise UsageError(f"--beta {options.beta}: must be a number above 0")
    flag = parse_response_flag(options.flag)
    files = [read_scored(path, flag, options.by) for path in options.scored]
    report = tilt_report(files, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, report)
    num_left_out = report["num_left_out"]
    write_manifest(
        options.out,
        command="audit tilt",
        inputs={f"scored {number}": path for number, path in enumerate(options.scored, 1)},
        settings={
            "flag": options.flag,
            "beta": options.beta,
            "by": options.by,
            "seed": options.seed,
        },
        counts={
            "responses": sum(len(file.responses) for file in files),
            "left_out": num_left_out,
        },
        started=started,
    )
    if num_left_out:
        print(
            f"candor: left out: {num_left_out} rows or responses without a score", file=sys.stderr
        )
    for path, file in zip(options.scored, files, strict=True):
        by_prompt: dict[str, list[float]] = {}
        for response in file.responses:
            by_prompt.setdefault(response.prompt, []).append(response.base_reward)
        if by_prompt:
            say_doubts(path, [(prompt, np.array(found)) for prompt, found in by_prompt.items()])
    print(orjson.dumps(_summary(options.out, report)).decode())
    return Exit.DONE


@dataclass(frozen=True, slots=True)
class Response:
    """One scored response, as the audit reads it."""

    data_set: str
    prompt: str
    base_reward: float
    flag: bool
    chosen: bool | None


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """The responses of one scored file."""

    responses: list[Response]
    model: Row
    num_left_out: int


def tilt_report(files: Sequence[ScoredFile], options: TiltOptions) -> dict[str, Any]:
    """The report over all files and for each data set.

    Raises:
        UsageError: several reward models, or a flag that every response has or no response has.
    """
    model = _same_model(options.scored, [file.model for file in files])
    responses = [response for file in files for response in file.responses]
    names = ", ".join(map(str, options.scored))
    if not responses:
        raise UsageError(f"{names}: no response has a score (see the 'error' of each)")
    flagged = sum(response.flag for response in responses)
    if flagged in (0, len(responses)):
        raise UsageError(
            f"{names}: --flag {options.flag}: {flagged} of {len(responses)} responses have it, so "
            "nothing can be compared; at least one must have it, and one must not"
        )
    beta, seed = options.beta, options.seed
    by_set: dict[str, list[Response]] = {}
    for response in responses:
        by_set.setdefault(response.data_set, []).append(response)
    return {
        "flag": options.flag,
        "beta": beta,
        "interval": "95 % over prompts: Student's t for means over prompts, BCa bootstrap for the "
        f"gap over all responses ({NUM_RESAMPLES} resamples, seed {seed})",
        "reward_model": model,
        "num_left_out": sum(file.num_left_out for file in files),
        "all": data_set(responses, beta, seed),
        "sets": {name: data_set(members, beta, seed) for name, members in by_set.items()},
    }


def data_set(responses: Sequence[Response], beta: float, seed: int) -> dict[str, Any]:
    """The numbers of one data set: overall and, where known, within the chosen and the rejected."""
    found = {"std_R": _spread(responses), "overall": part(responses, beta, seed)}
    for side, chosen in (("chosen", True), ("rejected", False)):
        if members := [response for response in responses if response.chosen is chosen]:
            found[side] = part(members, beta, seed)
    return found


def part(responses: Sequence[Response], beta: float, seed: int) -> dict[str, Any]:
    """Gap and tilt of some responses, in the report's form."""
    columns = (
        [response.base_reward for response in responses],
        [float(response.flag) for response in responses],
        [response.prompt for response in responses],
    )
    within = asdict(prompt_tilt(*columns, beta=beta))
    within["lambda"] = within.pop("lambda_")
    del within["beta"]
    return {
        "num_prompts": len(set(columns[2])),
        "num_responses": len(responses),
        **asdict(reward_gap(*columns, seed=seed)),
        "within_prompts": within,
    }


def _spread(responses: Sequence[Response]) -> float | None:
    """Within-prompt std(R), a scale for the gaps; None where no prompt has two responses."""
    by_prompt: dict[str, list[float]] = {}
    for response in responses:
        by_prompt.setdefault(response.prompt, []).append(response.base_reward)
    shared = [np.array(rewards) for rewards in by_prompt.values() if len(rewards) > 1]
    return within_std(shared) if shared else None


def read_scored(path: Path, flag: ResponseFlag, by: str | None) -> ScoredFile:
    """The responses of a scored file, with their flag and data set.

    Raises:
        UsageError: the file is not as `candor score` writes it, or a response lacks what `flag` or
            `by` reads.
    """
    rows = read_input(path)
    good = scored_rows(rows)
    model = one_model(path, good)
    responses: list[Response] = []
    num_left_out = len(rows) - len(good)
    for row in good:
        read_group(path, row)
        data_set = str(path) if by is None else field_of(path, row, by, "--by")
        scored = candidates(row)
        num_left_out += len(row["scores"]) - len(scored)
        for index in scored:
            try:
                responses.append(_response(row, index, flag, data_set))
            except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
                reason = str(error) if type(error) is ValueError else repr(error)
                raise UsageError(
                    f"{path}: key {row['key']!r}: response {index} {reason} (--flag {flag.spec})"
                ) from None
    return ScoredFile(responses, model, num_left_out)


def _response(row: Row, index: int, flag: ResponseFlag, data_set: str) -> Response:
    response, score = row["responses"][index], row["scores"][index]
    chosen = response.get("chosen")
    if not isinstance(chosen, bool | None):
        raise ValueError("has neither true nor false under 'chosen'")
    return Response(data_set, context_of(row), score["base_reward"], flag(response, score), chosen)


def _same_model(paths: Sequence[Path], models: Sequence[Row]) -> dict[str, str]:
    for path, model in zip(paths, models, strict=True):
        if model["revision"] != models[0]["revision"]:
            raise UsageError(
                f"{path}: was scored by other weights ({model['revision'][:12]}) than {paths[0]} "
                f"({models[0]['revision'][:12]}); audit one reward model at a time"
            )
    return {"id": models[0]["id"], "revision": models[0]["revision"]}


def _summary(out: Path, report: dict[str, Any]) -> dict[str, Any]:
    """The last line of stdout: each data set's gaps, and the tilt over prompts."""

    def brief(found: dict[str, Any]) -> dict[str, Any]:
        within = found["overall"]["within_prompts"]
        return {
            "std_R": found["std_R"],
            "gap": {side: found[side]["gap"] for side in found if side != "std_R"},
            "gap_within_prompts": within["gap"],
            "share_tilted": within["share_tilted"],
            "lambda": within["lambda"],
        }

    return {
        "out": str(out),
        "flag": report["flag"],
        "beta": report["beta"],
        "all": brief(report["all"]),
        "sets": {name: brief(found) for name, found in report["sets"].items()},
    }
