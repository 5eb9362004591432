"""What the erasures share: how they report progress, and in what dtype their results come."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Progress = Callable[[int, int, str], None]


class Steps:
    """Counts steps and tells `progress` of each, as progress(done, total, stage)."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def more(self, count: int) -> None:
        """There are `count` steps more than was thought."""
        self._total += count

    def done(self, stage: str) -> None:
        """One more step is done."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, stage)


def result_dtype(concept: Tensor) -> torch.dtype:
    """The dtype of the concepts, but float32 at least: half precision would round a transform away."""
    return torch.promote_types(concept.dtype, torch.float32)
