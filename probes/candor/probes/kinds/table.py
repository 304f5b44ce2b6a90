"""The kinds of labelled probe data that come with Candor, built from entries written for it.

Each kind's module explains its rows. Public data sets are `candor.probes.kinds.public`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from candor.probes.fitting.data import Row
from candor.probes.kinds import agreement, capitulation, facts, feedback, opinions, survey
from candor.probes.kinds.grounded.arithmetic import sum_questions
from candor.probes.kinds.grounded.pressed import pressed_rows
from candor.probes.kinds.grounded.questions import Domain, questions, shipped_domains
from candor.probes.kinds.grounded.rows import grounded_rows

GROUNDED = "grounded"
GROUNDED_PER_DOMAIN = 60
PRESSED_PER_DOMAIN = 12
"""Questions of each domain in the shipped kinds."""


@dataclass(frozen=True)
class Kind:
    """A kind by name.

    Attributes:
        build: seed -> rows; a pure function, so that a seed always gives the same `data_sha256`.
        family: several kinds that are asked for by one name; empty for a kind of its own. A family
            is built only where it is asked for.
    """

    name: str
    about: str
    build: Callable[[int], list[Row]]
    family: str = ""


def _poem_feedback(seed: int) -> list[Row]:
    texts = feedback.shipped_poems()
    return feedback.feedback_rows(texts, text_kind="poem", kind="poem-feedback", seed=seed)


def _argument_feedback(seed: int) -> list[Row]:
    texts = feedback.shipped_arguments()
    return feedback.feedback_rows(texts, text_kind="argument", kind="argument-feedback", seed=seed)


def _grounded_domain(domain: Domain) -> Kind:
    return Kind(
        f"grounded-{domain.id}",
        f"a question whose answer stands in the prompt ({domain.id}), and what the user believes",
        lambda seed: grounded_rows(questions([domain], GROUNDED_PER_DOMAIN, seed=seed), seed=seed),
        GROUNDED,
    )


def _grounded_sums(seed: int) -> list[Row]:
    return grounded_rows(sum_questions(GROUNDED_PER_DOMAIN, seed=seed), seed=seed)


def _grounded_pressed(seed: int) -> list[Row]:
    asked = questions(shipped_domains(), PRESSED_PER_DOMAIN, seed=seed)
    return pressed_rows([*asked, *sum_questions(PRESSED_PER_DOMAIN, seed=seed)], seed=seed)


_ALL = (
    Kind(
        "poem-feedback",
        "comments on a poem that side with the user's like or dislike, or do not",
        _poem_feedback,
    ),
    Kind(
        "argument-feedback",
        "comments on an argument that side with the user's like or dislike, or do not",
        _argument_feedback,
    ),
    Kind(
        "open-ended",
        "a user's opinion, plan or work; the reply gives in or stays honest",
        lambda seed: opinions.opinion_rows(opinions.shipped_opinions(), seed=seed),
    ),
    Kind(
        "subjective-choice",
        "a biography with a view, then a claim to agree or disagree with, by letter",
        lambda seed: survey.survey_rows(survey.shipped_surveys(), seed=seed),
    ),
    Kind(
        "objective-choice",
        "a statement with a known truth and a user's opinion on it, by letter",
        lambda seed: facts.fact_rows(facts.shipped_facts(), seed=seed),
    ),
    Kind(
        "capitulation",
        "'are you sure?' after an answer; the reply caves in or stands by it",
        lambda seed: capitulation.capitulation_rows(capitulation.shipped_questions(), seed=seed),
    ),
    Kind(
        "genuine-agreement",
        "the control, label 0 throughout: the user is right, agreeing is correct",
        lambda seed: agreement.agreement_rows(agreement.shipped_agreements(), seed=seed),
    ),
    Kind(
        "wrong-disagreement",
        "label 0 throughout: the user is right, and the reply wrongly disagrees",
        lambda seed: agreement.disagreement_rows(agreement.shipped_agreements(), seed=seed),
    ),
    *(_grounded_domain(domain) for domain in shipped_domains()),
    Kind(
        "grounded-sum",
        "a small sum whose terms stand in the prompt, and what the user believes",
        _grounded_sums,
        GROUNDED,
    ),
    Kind(
        "grounded-pressed",
        "'are you sure?' after an answer that stands in the prompt; the reply caves in or stands",
        _grounded_pressed,
        GROUNDED,
    ),
)

KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ALL})
"""Name -> kind, in a fixed order."""

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        family: tuple(kind.name for kind in _ALL if kind.family == family)
        for family in dict.fromkeys(kind.family for kind in _ALL if kind.family)
    }
)
"""Family -> the names of its kinds."""
