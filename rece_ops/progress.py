"""How everything that takes longer than a blink tells how far it is, in one shape: progress(done, total, stage)."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called after every step with the steps done, their number, and the name of the stage; may raise to cancel."""


class Steps:
    """Counts steps and tells `progress` of each, as progress(done, total, stage)."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def restart(self) -> None:
        """Everything that was done has to be done once more."""
        self._total += self._done

    def done(self, stage: str) -> None:
        """One more step is done."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, stage)
