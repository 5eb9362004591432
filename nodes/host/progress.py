"""The host's progress bar and its Cancel button, behind the one shape that everything here reports progress in."""

from __future__ import annotations

from typing import Any, Protocol

import comfy.model_management
import comfy.utils

_WHOLE = 1000


class PictureProgress(Protocol):
    """`Progress` that takes a preview too, as the host's previewers make them."""

    def __call__(self, done: int, total: int, stage: str = "", preview: Any = None) -> None: ...


class JobProgress:
    """A progress bar for a job of several parts, each of which counts its own steps.

    Every step is also a chance to cancel.

    Args:
        shares: how long the parts take, relative to each other, by name, in the order in which they come.
    """

    def __init__(self, **shares: float) -> None:
        self._bar = comfy.utils.ProgressBar(_WHOLE)
        total = sum(shares.values())
        self._ranges: dict[str, tuple[float, float]] = {}
        begun = 0.0
        for name, share in shares.items():
            self._ranges[name] = begun / total, share / total
            begun += share

    def part(self, name: str, place: int = 0, count: int = 1) -> PictureProgress:
        """What to report the steps of a part to: progress(done, total, stage), and what to show meanwhile.

        Args:
            name: of the part.
            place, count: where the part is done in several turns, which of how many this is.

        Raises (the function returned):
            comfy.model_management.InterruptProcessingException: the person pressed Cancel.
        """
        begun, share = self._ranges[name]

        def report(done: int, total: int, stage: str = "", preview: Any = None) -> None:
            check_cancelled()
            within = (place + done / max(total, 1)) / count
            self._bar.update_absolute(round(_WHOLE * (begun + share * within)), _WHOLE, preview)

        return report


class QuietProgress(JobProgress):
    """Of a job within another one, whose bar it leaves alone; every step is still a chance to cancel."""

    def __init__(self) -> None:
        pass

    def part(self, name: str, place: int = 0, count: int = 1) -> PictureProgress:
        """See `JobProgress`."""

        def report(done: int, total: int, stage: str = "", preview: Any = None) -> None:
            check_cancelled()

        return report


def check_cancelled() -> None:
    """A chance to cancel, without a step.

    Raises:
        comfy.model_management.InterruptProcessingException: the person pressed Cancel.
    """
    comfy.model_management.throw_exception_if_processing_interrupted()
