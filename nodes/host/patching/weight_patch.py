"""An ERASER as a patch in a MODEL's chain: W becomes W·T when the weight is next computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import torch
from comfy.weight_adapter import WeightAdapterBase
from torch import Tensor

from ....rece_ops import Eraser
from ..protocols import Model


class EraserAdapter(WeightAdapterBase):
    """W ← W + s·W·(T − I) on whatever the patches before it made of W.

    All state is in `weights`, the factors of T − I, because the low-VRAM path rebuilds an adapter from
    `(loaded_keys, weights)` alone. All projections of a text stream share one adapter.
    """

    name = "rece_eraser"

    def __init__(self, loaded_keys: set[str], weights: tuple[Tensor, ...]) -> None:
        self.loaded_keys = loaded_keys
        self.weights = weights

    def calculate_weight(
        self,
        weight: Tensor,
        key: str,
        strength: float,
        strength_model: float,
        offset: tuple[int, int, int] | None,
        function: Callable[[Tensor], Tensor] | None,
        intermediate_dtype: torch.dtype = torch.float32,
        original_weight: Any = None,
    ) -> Tensor:
        """Write the patched weight into `weight` [out, d] (a slice of one must change in place), return it."""
        dtype = torch.promote_types(weight.dtype, torch.float32)
        source = weight.to(dtype)
        change = source
        for factor in self.weights:
            change = change @ comfy.model_management.cast_to_device(factor, weight.device, dtype)
        change = change * strength if function is None else function(change * strength)
        return weight.copy_(source + change)


def add_weight_patches(model: Model, keys: Sequence[Any], eraser: Eraser, strength: float) -> None:
    """Put `eraser` at the end of MODEL's patch chain, for all weights, or columns of them, in `keys`."""
    model.add_patches(dict.fromkeys(keys, EraserAdapter(set(), _normal_tensors(eraser))), strength)


def _normal_tensors(eraser: Eraser) -> tuple[Tensor, ...]:
    """The factors as tensors that also work outside inference mode (training on the patched MODEL)."""
    with torch.inference_mode(False):
        return tuple(factor.clone() for factor in eraser.factors() if factor is not None)
