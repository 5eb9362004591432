"""Whether numbers fit their dtype: an erasure never hands on NaN or infinity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError
from .solves import float64_device, to_float64


def is_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite: one pass, no copy."""
    # Both extremes are finite only where every entry is; NaN counts as an extreme.
    return tensor.numel() == 0 or all(math.isfinite(float(extreme)) for extreme in torch.aminmax(tensor.detach()))


def product_bound(left: Tensor, right: Tensor) -> float:
    """No entry of left @ right, [m, r] times [r, n], is larger, nor any of its partial sums (Cauchy–Schwarz).

    It takes (m + n)·r operations, not m·n·r; NaN or infinity in a factor gives one of them.
    """
    if left.shape[1] == 0:
        return 0.0
    sides = ((left.detach(), 1), (right.detach(), 0))
    sizes = [float(torch.linalg.vector_norm(side, dim=dim).amax()) for side, dim in sides]
    return sizes[0] * sizes[1]


def balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of left @ right at about the same size, so that both fit a smaller dtype.

    The size moves from one to the other by a power of two, which rounds nothing.
    """
    sizes = [float(factor.abs().max()) for factor in (left, right)] if left.numel() else [0.0, 0.0]
    if min(sizes) <= 0:
        return left, right
    scale = 2.0 ** round((math.log2(sizes[1]) - math.log2(sizes[0])) / 2)
    return left * scale, right / scale


def check_change(left: Tensor, right: Tensor | None, what: str) -> None:
    """Raise InputError unless T − I = left @ right (left itself where `right` is None) is finite in its dtype.

    The product is only computed where the sizes of the factors do not settle it.

    Args:
        left: [d, r], or [d, d] without `right`.
        right: [r, d] or None.
        what: of what T is, for the message.

    Raises:
        InputError: an entry is NaN, infinite, or too large.
    """
    if not is_finite(left) or (right is not None and not is_finite(right)):
        raise InputError(
            f"{what} holds NaN or infinite values: lower the strength, or make the eraser again with larger "
            "'regularization' and 'edit_regularization'."
        )
    if right is None:
        return
    # What an eraser is applied to is computed in float32 at least.
    largest = torch.finfo(torch.promote_types(left.dtype, torch.float32)).max
    exact = [to_float64(factor, float64_device(factor.device)) for factor in (left, right)]
    if product_bound(*exact) <= largest:
        return
    found = float((exact[0] @ exact[1]).abs().max())
    if not found <= largest:
        raise InputError(
            f"{what} changes numbers by up to {found:.1e}, where {largest:.1e} is the largest that there is: lower the "
            "strength, or make the eraser again with larger 'regularization' and 'edit_regularization'."
        )
