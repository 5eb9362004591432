"""What happened in a training, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

WINDOW = 20
"""Steps whose losses are averaged for a report and for the retain limit."""


@dataclass
class Record:
    """What a training of any method keeps: some series of losses, one a step.

    Attributes:
        erasing: from what predictions of concept pictures are pulled to.
        skipped: steps whose gradients were not finite, which changed nothing.
        stopped: why the training ended before its last step, as the rest of a sentence; empty where it did not.
    """

    erasing: list[float] = field(default_factory=list)
    skipped: int = 0
    stopped: str = ""

    def series(self) -> dict[str, list[float]]:
        """The series by name, in the order of `add`."""
        return {"erasing": self.erasing}

    def add(self, losses: Sequence[float]) -> None:
        """One step's losses, one for each series."""
        for series, loss in zip(self.series().values(), losses, strict=True):
            series.append(loss)

    @property
    def steps(self) -> int:
        """How many steps were done."""
        return len(self.erasing)


@dataclass
class TrainingRecord(Record):
    """Of the method 'hardened'; all are mean squared differences of predicted noises, weighted by noise level.

    Of an adversary's predictions, `erasing` holds only what goes towards the concept, see `objectives.excess`.

    Attributes:
        retaining: from the MODEL's own predictions of what should stay.
        attacking: of adversaries from the true noise of concept pictures; low means that they make the concept.
        unedited_concept: what the MODEL has in the place of `attacking` with the concept's own prompt.
        unedited_rest: the MODEL's own error on what should stay, the unit of the retain limit.
    """

    retaining: list[float] = field(default_factory=list)
    attacking: list[float] = field(default_factory=list)
    unedited_concept: list[float] = field(default_factory=list)
    unedited_rest: list[float] = field(default_factory=list)

    def series(self) -> dict[str, list[float]]:
        """The five series by name."""
        return {
            "erasing": self.erasing,
            "retaining": self.retaining,
            "attacking": self.attacking,
            "unedited concept": self.unedited_concept,
            "unedited rest": self.unedited_rest,
        }

    @property
    def retain_share(self) -> float:
        """The retain loss of the last steps, relative to the MODEL's own error."""
        return recent(self.retaining) / max(recent(self.unedited_rest), 1e-12)


@dataclass
class RecelerRecord(Record):
    """Of Receler.

    Attributes:
        localized: what adapters add where the concept is not, see `localization.localized_loss`.
        attacking: mean squared difference between what the adversary makes the erased MODEL predict and what the MODEL itself
            predicts of the concept; low means that it found the concept.
        unedited: the erasing loss of the MODEL itself.
        masked: the share of the picture that the mask holds for the concept.
    """

    localized: list[float] = field(default_factory=list)
    attacking: list[float] = field(default_factory=list)
    unedited: list[float] = field(default_factory=list)
    masked: list[float] = field(default_factory=list)

    def series(self) -> dict[str, list[float]]:
        """The five series by name."""
        return {
            "erasing": self.erasing,
            "localized": self.localized,
            "attacking": self.attacking,
            "unedited": self.unedited,
            "masked": self.masked,
        }


def recent(losses: Sequence[float]) -> float:
    """The mean of the last `WINDOW` losses."""
    last = losses[-WINDOW:]
    return sum(last) / max(len(last), 1)


def first(losses: Sequence[float]) -> float:
    """The mean of the first `WINDOW` losses."""
    return sum(losses[:WINDOW]) / max(len(losses[:WINDOW]), 1)
