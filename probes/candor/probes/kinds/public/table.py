"""The public sets that give rows, by the name that `candor data build --source` takes.

`sycophancy_eval.texts_of` reads a set that has texts to ask about and no labelled reply.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from candor.probes.fitting.data import Row
from candor.probes.kinds.public import model_written, rotten_tomatoes, sycophancy_eval
from candor.probes.kinds.public.source import fetch

HUB = "hub"


@dataclass(frozen=True)
class Source:
    """A public set by name.

    Attributes:
        hub: repository and files on the Hugging Face hub; None if the set is not there.
        folder: names of the files to read if a folder is given.
        build: files, seed -> rows.
    """

    name: str
    about: str
    hub: tuple[str, tuple[str, ...]] | None
    folder: tuple[str, ...]
    build: Callable[[Sequence[Path], int], list[Row]]

    def files(self, where: str) -> list[Path]:
        """The files to read: from the hub if `where` is "hub", else a file or a folder's files.

        Raises:
            ValueError: the set is not on the hub.
            ConnectionError: the files cannot be fetched from the hub.
            FileNotFoundError: there is no such file.
        """
        if where == HUB:
            if self.hub is None:
                raise ValueError(f"source {self.name!r} is not on the hub: give a local file")
            return fetch(*self.hub)
        path = Path(where)
        paths = [path / name for name in self.folder] if path.is_dir() else [path]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"source {self.name!r}: no such file: {path}")
        return paths


def _survey(name: str, file: str) -> Source:
    path = f"sycophancy/{file}"
    return Source(
        name,
        f"Anthropic model-written evals, {file}: subjective-choice",
        ("Anthropic/model-written-evals", (path,)),
        (file,),
        lambda paths, seed: model_written.survey_rows_of(paths[0]),
    )


_ALL = (
    _survey("nlp-survey", "sycophancy_on_nlp_survey.jsonl"),
    _survey("philpapers", "sycophancy_on_philpapers2020.jsonl"),
    _survey("political-quiz", "sycophancy_on_political_typology_quiz.jsonl"),
    Source(
        "caa",
        "CAA sycophancy, generate_dataset.json or test_dataset_ab.json: subjective-choice",
        None,
        ("generate_dataset.json",),
        lambda paths, seed: model_written.survey_rows_of(paths[0]),
    ),
    Source(
        "rotten-tomatoes",
        "Rotten Tomatoes sentences, rt-polarity.pos and .neg: objective-choice",
        (
            "cornell-movie-review-data/rotten_tomatoes",
            ("train.parquet", "validation.parquet", "test.parquet"),
        ),
        ("rt-polarity.pos", "rt-polarity.neg"),
        rotten_tomatoes.review_rows,
    ),
    Source(
        "sycophancy-eval-answer",
        "SycophancyEval answer.jsonl: open-ended and its controls",
        ("meg-tong/sycophancy-eval", ("answer.jsonl",)),
        ("answer.jsonl",),
        lambda paths, seed: sycophancy_eval.answer_rows(paths[0], seed),
    ),
    Source(
        "sycophancy-eval-are-you-sure",
        "SycophancyEval are_you_sure.jsonl: capitulation",
        ("meg-tong/sycophancy-eval", ("are_you_sure.jsonl",)),
        ("are_you_sure.jsonl",),
        lambda paths, seed: sycophancy_eval.are_you_sure_rows(paths[0], seed),
    ),
)

SOURCES: Mapping[str, Source] = MappingProxyType({source.name: source for source in _ALL})


def draw_contexts(rows: Sequence[Row], max_rows: int, seed: int) -> list[Row]:
    """At most `max_rows` rows, drawn by the seed, in their order; a prompt's rows stay together.

    The paper (arXiv 2412.00967) draws 100 rows per kind from its larger sets.
    """
    by_context: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_context.setdefault(row.context, []).append(index)
    contexts = sorted(by_context)
    random.Random(seed).shuffle(contexts)
    kept: list[int] = []
    for context in contexts:
        if len(kept) + len(by_context[context]) <= max_rows:
            kept += by_context[context]
    return [rows[index] for index in sorted(kept)]
