"""`candor audit tilt`: how far a reward model favours responses with a flag.

Of scored files, each a data set (or, with `--by`, each value of a field a data set): mean R of the
flagged minus mean R of the others, overall and within the chosen and the rejected responses. A
reward that follows quality alone may differ overall, because better responses may carry the flag
more often; within the chosen alone, or the rejected alone, it should not (the conditional form of
Causal Rewards, arXiv 2501.09620). And prompt by prompt: the share that an optimiser of strength
beta would push towards the flag, and the penalty lambda*(x) that would undo it
(`candor.probes.tilt`).

Which response was preferred is "chosen": true or false in "responses", as `candor score` writes it
for preference pairs; without it the two parts are left out. R is the base reward: no penalty is in
it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from candor.jobs.rollouts.flags import Flag, parse_flag
from candor.jobs.rollouts.scored import candidates, context_of, one_model, read_group, scored_rows
from candor.jobs.running.exits import Exit, JobStopped, exit_code
from candor.jobs.running.files import Row, read_rows, write_json
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.running.rows import check_paths
from candor.probes.bootstrap import NUM_RESAMPLES
from candor.probes.fitting.calibrate import within_std
from candor.probes.tilt import prompt_tilt, reward_gap


def audit_tilt(
    *,
    scored: list[Path],
    flag: str,
    out: Path,
    beta: float = 1.0,
    by: str | None = None,
    seed: int = 0,
) -> int:
    """How far R favours a flag: reward gap, tilted prompts, and the penalty that would undo it.

    Parameters
    ----------
    scored
        JSONL written by `candor score`; repeat for more. Each file is a data set.
    flag
        contains:TEXT, probe:NAME>THRESHOLD or field:NAME.
    out
        JSON with gaps, shares and intervals (bootstrap over prompts) for each data set.
    beta
        Strength of the optimiser: an inverse temperature, 1 / reward units.
    by
        A field of the rows, such as meta.source: each of its values is a data set instead.
    seed
        Of the bootstrap.
    """

    def run() -> Exit:
        started = now()
        for path in scored:
            check_paths(path, out)
        if not (np.isfinite(beta) and beta > 0):
            raise JobStopped(Exit.USAGE, f"--beta {beta}: must be a number above 0")
        wanted = parse_flag(flag)
        read = [_read(path, wanted, by) for path in scored]
        model = _same_model(scored, [one.model for one in read])
        responses = [response for one in read for response in one.responses]
        if len({response.flag for response in responses}) < 2:
            which = "every" if responses and responses[0].flag else "no"
            raise JobStopped(
                Exit.USAGE, f"--flag {flag}: {which} response has it, so nothing can be compared"
            )
        report: dict[str, Any] = {
            "flag": flag,
            "beta": beta,
            "interval": f"95 %, bootstrap over prompts, {NUM_RESAMPLES} resamples, seed {seed}",
            "reward_model": model,
            "num_left_out": sum(one.num_left_out for one in read),
            "all": data_set(responses, beta, seed),
            "sets": {
                name: data_set(members, beta, seed) for name, members in _sets(responses).items()
            },
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, report)
        write_manifest(
            out,
            command="audit tilt",
            inputs={f"scored {number}": path for number, path in enumerate(scored, 1)},
            settings={"flag": flag, "beta": beta, "by": by, "seed": seed},
            counts={"responses": len(responses), "left_out": report["num_left_out"]},
            started=started,
        )
        if report["num_left_out"]:
            print(
                f"candor: left out: {report['num_left_out']} rows or responses without a score",
                file=sys.stderr,
            )
        print(orjson.dumps(_summary(out, report)).decode())
        return Exit.DONE

    return exit_code(run)


@dataclass(frozen=True, slots=True)
class Response:
    """One scored response, as the audit sees it."""

    data_set: str
    prompt: str
    base_reward: float
    flag: bool
    chosen: bool | None


@dataclass(frozen=True, slots=True)
class Read:
    """What one file holds."""

    responses: list[Response]
    model: Row
    num_left_out: int


def part(responses: Sequence[Response], beta: float, seed: int) -> dict[str, Any]:
    """Gap and tilt of some responses, as the report says them."""
    columns = (
        [response.base_reward for response in responses],
        [float(response.flag) for response in responses],
        [response.prompt for response in responses],
    )
    within = asdict(prompt_tilt(*columns, beta=beta, seed=seed))
    within["lambda"] = within.pop("lambda_")
    del within["beta"]
    return {
        "num_prompts": len(set(columns[2])),
        "num_responses": len(responses),
        **asdict(reward_gap(*columns, seed=seed)),
        "within_prompts": within,
    }


def data_set(responses: Sequence[Response], beta: float, seed: int) -> dict[str, Any]:
    """One data set: overall and, where it is known, within the chosen and the rejected."""
    found = {"std_R": _spread(responses), "overall": part(responses, beta, seed)}
    for side, chosen in (("chosen", True), ("rejected", False)):
        if one_side := [response for response in responses if response.chosen is chosen]:
            found[side] = part(one_side, beta, seed)
    return found


def _sets(responses: Sequence[Response]) -> dict[str, list[Response]]:
    found: dict[str, list[Response]] = {}
    for response in responses:
        found.setdefault(response.data_set, []).append(response)
    return found


def _spread(responses: Sequence[Response]) -> float | None:
    """Within-prompt std(R), to hold the gaps against; None without a prompt of two responses."""
    by_prompt: dict[str, list[float]] = {}
    for response in responses:
        by_prompt.setdefault(response.prompt, []).append(response.base_reward)
    shared = [np.array(rewards) for rewards in by_prompt.values() if len(rewards) > 1]
    return within_std(shared) if shared else None


def _read(path: Path, flag: Flag, by: str | None) -> Read:
    rows = read_rows(path)
    good = scored_rows(rows)
    model = one_model(path, good)
    responses: list[Response] = []
    num_failed = len(rows) - len(good)
    for row in good:
        read_group(path, row)
        data_set = str(path) if by is None else _field_of(path, row, by)
        found = candidates(row)
        num_failed += len(row["scores"]) - len(found)
        for index in found:
            try:
                responses.append(_response(row, index, flag, data_set))
            except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
                reason = str(error) if type(error) is ValueError else repr(error)
                raise JobStopped(
                    Exit.USAGE,
                    f"{path}: key {row['key']!r}: response {index} {reason} (--flag {flag.spec})",
                ) from None
    return Read(responses, model, num_failed)


def _response(row: Row, index: int, flag: Flag, data_set: str) -> Response:
    response, score = row["responses"][index], row["scores"][index]
    chosen = response.get("chosen")
    if not isinstance(chosen, bool | None):
        raise ValueError("has neither true nor false under 'chosen'")
    return Response(data_set, context_of(row), score["base_reward"], flag(response, score), chosen)


def _field_of(path: Path, row: Row, by: str) -> str:
    value: Any = row
    for name in by.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str | int | float):
        raise JobStopped(
            Exit.USAGE, f"{path}: key {row['key']!r} has no text or number under {by!r} (--by)"
        )
    return str(value)


def _same_model(paths: Sequence[Path], models: Sequence[Row]) -> dict[str, str]:
    for path, model in zip(paths, models, strict=True):
        if model["revision"] != models[0]["revision"]:
            raise JobStopped(
                Exit.USAGE,
                f"{path}: was scored by other weights ({model['revision'][:12]}) than {paths[0]} "
                f"({models[0]['revision'][:12]}); audit one reward model at a time",
            )
    return {"id": models[0]["id"], "revision": models[0]["revision"]}


def _summary(out: Path, report: dict[str, Any]) -> dict[str, Any]:
    """The last line of stdout: each data set's gaps, and the tilt prompt by prompt."""

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
