"""The numbers that the panel says of an erasure, and what its pictures showed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.efficacy.records import Outcome
from benchmarks.erased_models import TARGETED, UNEDITED, UNNAMED
from pocket_model.rates import Rate


@dataclass(frozen=True)
class Numbers:
    """What is measured of one erasure without any picture.

    Attributes:
        setting, preserved, concept: what was erased, and how; as in `efficacy.json`.
        residual: see `rece_pack.rece_ops.ConceptMeasures`.
        regeneration: the last of it.
        drift: the largest of all prompts that should have stayed.
        machine: it was measured on.
    """

    setting: str
    preserved: bool
    concept: str
    residual: float
    regeneration: float
    drift: float
    machine: str = ""

    @property
    def key(self) -> tuple[str, bool, str]:
        """What identifies it."""
        return self.setting, self.preserved, self.concept


@dataclass(frozen=True)
class Case:
    """One erasure: its numbers, and as shares of what the unedited model does, what its pictures showed.

    Attributes:
        numbers: of it.
        left: how much more often its own prompts show the concept than an unknown word does, relative to the unedited model.
        returned: the same of the derived embedding.
        kept: how often pictures of other prompts show all that they say, relative to the unedited model.
    """

    numbers: Numbers
    left: float
    returned: float
    kept: float


def cases(numbers: Sequence[Numbers], outcomes: Sequence[Outcome]) -> list[Case]:
    """Numbers beside the pictures of the same erasure; those without pictures are left out."""
    seen = {outcome.key: outcome for outcome in outcomes}
    found = []
    for one in numbers:
        pictured = seen.get(one.key)
        if pictured is None:
            continue
        before, habit = (seen[name, False, one.concept] for name in (UNEDITED, UNNAMED))
        found.append(
            Case(
                one,
                _beyond(pictured.own, before.own, habit.own),
                _beyond(pictured.derived, before.own, habit.own),
                pictured.others.share / before.others.share,
            )
        )
    return found


def _beyond(rate: Rate, before: Rate, habit: Rate) -> float:
    """A rate where the habit's is 0 and the one before is 1; NaN where the concept is mere habit."""
    span = before.share - habit.share
    return max(0.0, (rate.share - habit.share) / span) if span > 0 else math.nan


def everything(case: Case) -> bool:
    """All cases."""
    return True


def targeted(case: Case) -> bool:
    """Those whose concept was mapped to another word."""
    return case.numbers.setting.endswith(TARGETED)


def untargeted(case: Case) -> bool:
    """Those whose concept was mapped to the empty prompt, or next to other words."""
    return not targeted(case)


@dataclass(frozen=True)
class Question:
    """Something that pictures show or not, and the number that should tell it.

    Attributes:
        name: what is asked.
        number: of a case, by its name in the table.
        of: reads the number.
        shown: whether the pictures show it.
        among: the cases that are asked about.
    """

    name: str
    number: str
    of: Callable[[Case], float]
    shown: Callable[[Case], bool]
    among: Callable[[Case], bool] = everything


def residual(case: Case) -> float:
    """Of its concept."""
    return case.numbers.residual


def drift(case: Case) -> float:
    """The largest."""
    return case.numbers.drift


def regeneration(case: Case) -> float:
    """The last."""
    return case.numbers.regeneration


QUESTIONS = (
    Question(
        "with a target, more than a tenth of it is left", "residual", residual, lambda case: case.left > 0.1, targeted
    ),
    Question(
        "with a target, more than half of it is left", "residual", residual, lambda case: case.left > 0.5, targeted
    ),
    Question(
        "without, more than a tenth of it is left", "residual", residual, lambda case: case.left > 0.1, untargeted
    ),
    Question("without, more than half of it is left", "residual", residual, lambda case: case.left > 0.5, untargeted),
    Question("more than a tenth of everything else is lost", "drift", drift, lambda case: case.kept < 0.9),
    Question("more than half of everything else is lost", "drift", drift, lambda case: case.kept < 0.5),
    Question(
        "the derived embedding makes more than half", "regeneration", regeneration, lambda case: case.returned > 0.5
    ),
)


def best_threshold(found: Sequence[Case], question: Question) -> float:
    """Above which number the pictures show it: where Youden's index, sensitivity + specificity − 1, is greatest."""
    values = sorted({question.of(case) for case in found if question.among(case)})
    between = [0.0, *((one + other) / 2 for one, other in itertools.pairwise(values)), math.inf]
    return max(between, key=lambda threshold: _youden(found, question, threshold))


def _youden(found: Sequence[Case], question: Question, threshold: float) -> float:
    recall, kept = (_share(found, question, threshold, shown) for shown in (True, False))
    return recall.share - kept.share if recall.trials and kept.trials else 0.0


def _share(found: Sequence[Case], question: Question, threshold: float, shown: bool) -> Rate:
    """Of the cases whose pictures show it, or do not: how many have a number above the threshold."""
    return Rate.of(
        question.of(case) > threshold for case in found if question.among(case) and question.shown(case) == shown
    )


def recall(found: Sequence[Case], question: Question, threshold: float) -> Rate:
    """Of the cases that show it, those above the threshold."""
    return _share(found, question, threshold, True)


def precision(found: Sequence[Case], question: Question, threshold: float) -> Rate:
    """Of the cases above the threshold, those that show it."""
    return Rate.of(question.shown(case) for case in found if question.among(case) and question.of(case) > threshold)
