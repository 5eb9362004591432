"""A concept becomes several others, in the shares of pictures that were asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ....rece_ops import InputError
from ....rece_ops.methods.shares import ShareSearch
from ....rece_ops.progress import Progress
from ....rece_ops.texts import quoted
from ...request.balance_request import BalanceRequest
from ...request.erasure_request import ErasureRequest
from ...request.prompt_sets import Drawing, PromptEntry
from ...request.target_mixtures import mixture_of, mixture_text
from ..detectors.detector import Detected, Detector
from ..progress import JobProgress, QuietProgress
from ..protocols import Model
from ..session import Session
from .apply import apply_eraser
from .erase import ErasureResult, erase_concepts
from .sample import Sampler

# Of the pictures of one place: those of the search, and those that nothing was chosen by.
SEARCHED, CHECKED = 0, 1


class Look(Protocol):
    """Makes pictures with a MODEL, and says of each which target it shows; None where it shows none of them."""

    def __call__(self, model: Model, which: int, progress: Progress) -> Sequence[str | None]:
        """`which` is SEARCHED or CHECKED: two sets of pictures, each with the same noise in every call."""
        ...


@dataclass(frozen=True)
class Tally:
    """How many pictures show which target.

    Attributes:
        counts: by target.
        pictures: in all, those included that show none.
    """

    counts: Mapping[str, int]
    pictures: int

    @classmethod
    def of(cls, shown: Sequence[str | None], targets: Sequence[str]) -> Tally:
        """Count what was seen."""
        found = Counter(shown)
        return cls({target: found[target] for target in targets}, len(shown))

    @property
    def counted(self) -> int:
        """How many show any of the targets."""
        return sum(self.counts.values())

    @property
    def shares(self) -> list[float]:
        """Of those that show any target."""
        return [count / self.counted for count in self.counts.values()]


@dataclass(frozen=True)
class Round:
    """The shares of the mixture [n], and what the pictures showed."""

    shares: tuple[float, ...]
    seen: Tally


@dataclass(frozen=True)
class Balance:
    """What came of it.

    Attributes:
        request: with the mixture that was found.
        result: the erasure.
        patched: the MODEL with it.
        rounds: all that was tried.
        before: what other pictures of the MODEL as it was show.
        after: what the same pictures show now.
        off: by how much the share of a target differed most from what was wanted, in the round that was taken.
    """

    request: ErasureRequest
    result: ErasureResult
    patched: Model
    rounds: tuple[Round, ...]
    before: Tally
    after: Tally
    off: float


def balance_concept(session: Session, request: ErasureRequest, look: Look, rounds: int, tolerance: float) -> Balance:
    """Find the mixture of targets for which the pictures have the shares that `request` asks for.

    Args:
        session: the MODEL and CLIP, which are not changed.
        request: one concept with several targets.
        look: makes the pictures and judges them.
        rounds: how many mixtures are tried at most.
        tolerance: how far the share of a target may be from what is wanted.

    Raises:
        InputError: no picture shows any of the targets; see also `erase_concepts`.
        comfy.model_management.InterruptProcessingException: the person pressed Cancel.
    """
    (line,) = request.concepts
    wanted = mixture_of(line.target)
    targets, search = list(wanted), ShareSearch(list(wanted.values()))
    progress = JobProgress(before=1, rounds=rounds, after=1)

    def erased(shares: Sequence[float]) -> tuple[ErasureRequest, ErasureResult, Model]:
        mixed = replace(line, target=mixture_text(dict(zip(targets, shares, strict=True))))
        asked = replace(request, concepts=[mixed])
        result = erase_concepts(session, asked, QuietProgress())
        return asked, result, apply_eraser(session, result.eraser, 1.0)

    def tally(model: Model, which: int, part: Progress) -> Tally:
        found = Tally.of(look(model, which, part), targets)
        if not found.counted:
            raise InputError(
                f"None of {found.pictures} pictures shows {' or '.join(map(quoted, targets))}, by what looks at them: describe "
                "the targets otherwise, or take more pictures or other prompts."
            )
        return found

    before = Tally.of(look(session.model, CHECKED, progress.part("before")), targets)
    tried: list[Round] = []
    for number in range(rounds):
        *_, model = erased(search.shares)
        tried.append(Round(search.shares, tally(model, SEARCHED, progress.part("rounds", number, rounds))))
        if search.off(tried[-1].seen.shares) <= tolerance:
            break
        search.move(tried[-1].seen.shares)
    best = min(tried, key=lambda one: search.off(one.seen.shares))
    asked, result, patched = erased(best.shares)
    after = Tally.of(look(patched, CHECKED, progress.part("after")), targets)
    return Balance(asked, result, patched, tuple(tried), before, after, search.off(best.seen.shares))


class SampledLook:
    """See `Look`: samples one picture after the other, and takes what a detector is surest of.

    Args:
        asked: prompts, labels and how many pictures.
        drawing: the seed of the first picture, guidance and size.
        sampler: makes them.
        detector: its findings bear the labels of the request.
    """

    def __init__(self, asked: BalanceRequest, drawing: Drawing, sampler: Sampler, detector: Detector) -> None:
        self._asked, self._drawing, self._sampler, self._detector = asked, drawing, sampler, detector
        self._targets = {_plain(label): target for label, target in asked.labels.items()}

    def __call__(self, model: Model, which: int, progress: Progress) -> list[str | None]:
        """See `Look`."""
        count, prompts = self._asked.pictures, self._asked.prompts
        found = []
        for place in range(count):
            entry = PromptEntry(which * count + place, prompts[place % len(prompts)])
            picture = self._sampler.picture(model, self._drawing.completed(entry))
            found.append(self._named(self._detector.detect(picture)[0]))
            progress(place + 1, count, "looking at pictures")
        return found

    def _named(self, seen: Detected) -> str | None:
        """The target of the surest finding that has one."""
        labels = (_plain(one.label) for one in seen.findings) if seen.shown else ()
        return next((self._targets[label] for label in labels if label in self._targets), None)


def _plain(label: str) -> str:
    """As detectors write classes, they differ in case, blanks and hyphens."""
    return re.sub(r"[\s_-]+", "", label).casefold()
