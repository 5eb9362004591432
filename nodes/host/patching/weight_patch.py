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

from ....rece_ops import Eraser, LowRank, SparseChange, SparseNumbers, WeightChange
from ....rece_ops.linear.finite import is_finite, product_bound
from ....rece_ops.sparse_change import dense_change, flat_shape
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
        source = weight.to(torch.promote_types(weight.dtype, torch.float32))
        change, bound = self._change(source)
        # Settles it without a look at the whole weight: with little memory, this runs in every step.
        small = function is None and abs(strength) * bound < self._spare(weight)
        change = change * strength
        result = source + (change if function is None else function(change))
        if not small:
            self._check(source, result, weight.dtype, key, strength)
        return weight.copy_(result)

    def _change(self, source: Tensor) -> tuple[Tensor, float]:
        """The change of `source` at strength 1, in its shape, and a bound of its numbers; infinite where that is dear."""
        *inner, last = self._like(source, self.weights)
        left = source
        for factor in inner:
            left = left @ factor
        return left @ last, product_bound(left, last) if inner else math.inf

    def _like(self, source: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [comfy.model_management.cast_to_device(one, source.device, source.dtype) for one in tensors]

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

    def _change(self, source: Tensor) -> tuple[Tensor, float]:
        up, down = self._like(source, self.weights)
        return (up @ down).reshape(source.shape), product_bound(up, down)


class HalfWeightChangeAdapter(WeightChangeAdapter):
    """The same for weights that are stored in float16."""

    stored = torch.float16


class SparseChangeAdapter(EraserAdapter):
    """W_i ← W_i + s·(a_i − r_i·W_i) at some places of a weight; `weights` holds places, r and a."""

    name = "rece_sparse_change"

    def _change(self, source: Tensor) -> tuple[Tensor, float]:
        places, *numbers = self.weights
        removed, added = self._like(source, numbers)
        difference = SparseNumbers(flat_shape(source.shape), places, removed, added).difference(source)
        return dense_change(difference, places, source.shape), float(difference.detach().abs().max())


class HalfSparseChangeAdapter(SparseChangeAdapter):
    """The same for weights that are stored in float16."""

    stored = torch.float16


def add_weight_changes(
    model: Model, change: WeightChange | SparseChange, keys: Iterable[str], strength: float, hook: Any = None
) -> None:
    """Put what `change` does to the weights in `keys` at the end of MODEL's patch chain, or under a hook of the host.

    Raises:
        WrongConnectionError: MODEL has no such weight, or one of another size.
    """
    patches, known = {}, model.model.state_dict()
    for key in keys:
        shape, kinds, tensors = _as_patch(change.changes[key])
        _check_fits(key, known.get(key), shape)
        patches[key] = kinds[_is_half(model, key)](set(), _normal_tensors(tensors))
    if hook is None:
        model.add_patches(patches, strength)
    else:
        model.add_hook_patches(hook, patches, strength)


def _as_patch(
    numbers: LowRank | SparseNumbers,
) -> tuple[tuple[int, int], tuple[type[EraserAdapter], type[EraserAdapter]], tuple[Tensor, ...]]:
    """The size of the weight that is meant, the adapters (the second for float16), and what they hold."""
    if isinstance(numbers, LowRank):
        kinds = WeightChangeAdapter, HalfWeightChangeAdapter
        return (numbers.up.shape[0], numbers.down.shape[1]), kinds, tuple(numbers)
    kinds = SparseChangeAdapter, HalfSparseChangeAdapter
    return numbers.shape, kinds, (numbers.places, numbers.removed, numbers.added)


def _check_fits(key: str, weight: Tensor | None, expected: tuple[int, int]) -> None:
    if weight is None or flat_shape(weight.shape) != expected:
        shape = () if weight is None else tuple(weight.shape)
        raise WrongConnectionError(
            f"This ERASER changes the weight {quoted(key)} of {expected[0]}×{expected[1]} numbers, but MODEL "
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
