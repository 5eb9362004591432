"""An ERASER as a patch in a MODEL's chain: W becomes W·T when the weight is next computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.weight_adapter import WeightAdapterBase
from torch import Tensor

from ....rece_ops import Eraser, LowRank, WeightChange
from ....rece_ops.linear.finite import is_finite, product_bound
from ....rece_ops.texts import quoted
from ..errors import NotFiniteError, WrongConnectionError
from ..protocols import Model


class EraserAdapter(WeightAdapterBase):
    """W ← W + s·W·(T − I) on whatever the patches before it made of W.

    All state is in `weights`, the factors of T − I, because the low-VRAM path rebuilds an adapter from
    `(loaded_keys, weights)` alone. All text readers of a text stream that are stored in one dtype share one adapter.

    A weight that is not finite, or would not be in the dtype that it is stored in, is never written.
    """

    name = "rece_eraser"
    # The host computes a patch in float32 and rounds to what is stored afterwards, where no adapter sees it. Of float32
    # and bfloat16, the latter ends first.
    stored: ClassVar[torch.dtype] = torch.bfloat16

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
        """Write the patched weight into `weight` [out, d] (a slice of one must change in place), return it.

        Raises:
            NotFiniteError: the patched weight would not be finite.
        """
        dtype = torch.promote_types(weight.dtype, torch.float32)
        source = weight.to(dtype)
        factors = [comfy.model_management.cast_to_device(factor, weight.device, dtype) for factor in self.weights]
        left, right, thin = self._product(source, factors)
        # Settles it for thin factors without a look at the whole weight: with little memory, this runs in every step.
        small = thin and function is None and abs(strength) * product_bound(left, right) < self._spare(weight)
        change = (left @ right).reshape(source.shape) * strength
        result = source + (change if function is None else function(change))
        if not small:
            self._check(source, result, weight.dtype, key, strength)
        return weight.copy_(result)

    def _product(self, source: Tensor, factors: Sequence[Tensor]) -> tuple[Tensor, Tensor, bool]:
        """Two matrices whose product is the change of `source` at strength 1, and whether they are thin."""
        *inner, last = factors
        left = source
        for factor in inner:
            left = left @ factor
        return left, last, bool(inner)

    def _spare(self, weight: Tensor) -> float:
        """A change of a finite weight below this leaves it finite: half a unit in the last place of the largest number."""
        return min(torch.finfo(dtype).max * torch.finfo(dtype).eps / 4 for dtype in (self.stored, weight.dtype))

    def _check(self, source: Tensor, result: Tensor, dtype: torch.dtype, key: str, strength: float) -> None:
        narrow = min(self.stored, dtype, key=lambda one: torch.finfo(one).max)
        if is_finite(result.to(narrow)):
            return
        if not is_finite(source):
            raise NotFiniteError(
                f"The weight '{key}' holds NaN or infinite values before the erasure: the checkpoint or a LoRA on it is "
                "damaged. Load another."
            )
        raise NotFiniteError(
            f"At strength {strength:g}, the erasure makes the weight '{key}', of up to {float(source.abs().max()):.3g}, too "
            f"large for {str(narrow).removeprefix('torch.')}, which ends at {torch.finfo(narrow).max:.3g}: lower 'strength', "
            "make the eraser again with larger 'regularization' and 'edit_regularization', or load the model in another "
            "dtype."
        )


class HalfEraserAdapter(EraserAdapter):
    """The same for weights that are stored in float16, whose largest number is 65504."""

    stored = torch.float16


class WeightChangeAdapter(EraserAdapter):
    """W ← W + s·(up @ down), of a weight of any shape; `weights` holds the two factors."""

    name = "rece_weight_change"

    def _product(self, source: Tensor, factors: Sequence[Tensor]) -> tuple[Tensor, Tensor, bool]:
        up, down = factors
        return up, down, True


class HalfWeightChangeAdapter(WeightChangeAdapter):
    """The same for weights that are stored in float16."""

    stored = torch.float16


def add_weight_changes(
    model: Model, change: WeightChange, keys: Iterable[str], strength: float, hook: Any = None
) -> None:
    """Put what `change` does to the weights in `keys` at the end of MODEL's patch chain, or under a hook of the host.

    Raises:
        WrongConnectionError: MODEL has no such weight, or one of another size.
    """
    patches, known = {}, model.model.state_dict()
    for key in keys:
        factors = change.changes[key]
        _check_fits(key, tuple(known[key].shape) if key in known else (), factors)
        kind = HalfWeightChangeAdapter if _is_half(model, key) else WeightChangeAdapter
        patches[key] = kind(set(), _normal_tensors(factors))
    if hook is None:
        model.add_patches(patches, strength)
    else:
        model.add_hook_patches(hook, patches, strength)


def _check_fits(key: str, shape: tuple[int, ...], factors: LowRank) -> None:
    if not shape or (factors.up.shape[0], factors.down.shape[1]) != (shape[0], math.prod(shape[1:])):
        raise WrongConnectionError(
            f"This ERASER changes the weight {quoted(key)} of {factors.up.shape[0]}×{factors.down.shape[1]} numbers, but MODEL "
            f"has {'none of that name' if not shape else 'one of ' + '×'.join(map(str, shape))}: use an eraser that was made "
            "on the same base."
        )


def add_weight_patches(model: Model, keys: Sequence[Any], eraser: Eraser, strength: float) -> None:
    """Put `eraser` at the end of MODEL's patch chain, for all weights, or columns of them, in `keys`."""
    factors = _normal_tensors(factor for factor in eraser.factors() if factor is not None)
    adapters = {kind: kind(set(), factors) for kind in (EraserAdapter, HalfEraserAdapter)}
    model.add_patches({key: adapters[_kind(model, key)] for key in keys}, strength)


def _kind(model: Any, key: Any) -> type[EraserAdapter]:
    """Which adapter a weight, or a slice (key, …) of one, needs."""
    return HalfEraserAdapter if _is_half(model, key if isinstance(key, str) else key[0]) else EraserAdapter


def _is_half(model: Any, key: str) -> bool:
    """Whether a weight is stored in float16."""
    return bool(comfy.model_patcher.get_key_weight(model.model, key)[0].dtype == torch.float16)


def _normal_tensors(factors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The factors as tensors that also work outside inference mode (training on the patched MODEL)."""
    with torch.inference_mode(False):
        return tuple(factor.clone() for factor in factors)
