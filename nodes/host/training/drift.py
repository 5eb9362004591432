"""How far changes of weights move what a MODEL predicts, on the way that the MODEL itself takes."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..protocols import Model
from .layers import TrainedLayers

_WRAPPER = "model_function_wrapper"
# As the sampler tells the halves of guidance apart.
_POSITIVE = 0


class PredictedDrift:
    """‖D' − D‖ / ‖D‖ over all predictions with a prompt: D is what MODEL takes for the clean latents, D' the same with the changes.

    Args:
        layers: what changes, attached.
    """

    def __init__(self, layers: TrainedLayers) -> None:
        self._layers = layers
        self._moved, self._size = 0.0, 0.0

    def watching(self, model: Model) -> Model:
        """A clone of MODEL that samples as MODEL does, and whose predictions are looked at."""
        watched = model.clone()
        before = watched.model_options.get(_WRAPPER)

        def predict(apply: Any, told: dict[str, Any]) -> Tensor:
            def once() -> Tensor:
                if before is not None:
                    found: Tensor = before(apply, told)
                else:
                    found = apply(told["input"], told["timestep"], **told["c"])
                return found

            with self._layers.on():
                changed = once()
            plain = once()
            self._add(plain, changed, told["cond_or_uncond"])
            return plain

        watched.model_options = {**watched.model_options, _WRAPPER: predict}
        return watched

    @property
    def value(self) -> float:
        """The drift so far; 0 before anything was predicted."""
        return math.sqrt(self._moved / self._size) if self._size else 0.0

    def _add(self, plain: Tensor, changed: Tensor, halves: list[int]) -> None:
        for own, other, half in zip(plain.chunk(len(halves)), changed.chunk(len(halves)), halves, strict=True):
            if half == _POSITIVE:
                self._moved += float((other.float() - own.float()).square().sum())
                self._size += float(own.float().square().sum())
