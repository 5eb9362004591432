"""The host's compute device, its progress bar and its Cancel button."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import torch


def compute_device(dimension: int) -> torch.device:
    """ComfyUI's compute device, with room made for an erasure of text dimension `dimension`."""
    device = comfy.model_management.get_torch_device()
    # Measured peak: twelve d×d float64 matrices and one projection (see benchmarks).
    comfy.model_management.free_memory(14 * dimension * dimension * 8, device)
    return device


class Progress:
    """A progress bar over `total` steps; every step is also a chance to cancel."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)

    def step(self, *_: object) -> None:
        """One step done.

        Raises:
            comfy.model_management.InterruptProcessingException: the person pressed Cancel.
        """
        self.check()
        self._bar.update(1)

    def check(self, *_: object) -> None:
        """A chance to cancel, without a step.

        Raises:
            comfy.model_management.InterruptProcessingException: the person pressed Cancel.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
