"""How far computed numbers may be from exact ones: on any make of CPU, with any number of threads, in any order of summation.

Everything follows from the dtype, the sizes of the summands and the length of the sums (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd edition): a sum of n products has an error of γ_n Σ|a||b| at most, γ_n = n·u / (1 − n·u), in
whatever order it is made and with or without fused multiply-add. Underflow is left out except for one rounding (`to`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from rece_pack.rece_ops import Projection
from torch import Tensor

# Orthogonal factorizations are backward stable: ‖ΔA‖_F ≤ γ̃_{mn}‖A‖_F (Theorem 19.4). Higham leaves the small integer in
# γ̃ open; each entry goes through a handful of operations for each of the m·n that the theorem counts.
_OPERATIONS = 8
Noise = Callable[[Tensor], Tensor]


def unit(dtype: torch.dtype) -> float:
    """u: the largest relative error of one rounding to nearest."""
    return torch.finfo(dtype).eps / 2


def gamma(length: float, dtype: torch.dtype = torch.float64) -> float:
    """γ_n, the largest relative error of `length` roundings one after the other."""
    rounding = length * unit(dtype)
    assert rounding < 0.5, "so long a sum has no meaningful bound in this dtype"
    return rounding / (1 - rounding)


def product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """The error of each entry of left @ right, summed in `dtype`, of which both factors are exact."""
    return gamma(left.shape[-1], dtype) * (left.double().abs() @ right.double().abs())


class Rounded:
    """A tensor as some computation makes it: what it would be exactly, and how far off each entry may be.

    Sums, products and roundings of such tensors follow the error along. Arithmetic is that of `dtype`.

    Attributes:
        value: float64; its own rounding is part of `error`.
        error: of each entry, at most.
        dtype: that the computation has its numbers in.
    """

    def __init__(self, value: Tensor, error: Tensor | None = None, dtype: torch.dtype | None = None) -> None:
        self.value = value.detach().double()
        self.error = torch.zeros_like(self.value) if error is None else error
        self.dtype = dtype or value.dtype

    @property
    def size(self) -> Tensor:
        """The largest that each entry can be."""
        return self.value.abs() + self.error

    @property
    def T(self) -> Rounded:
        return Rounded(self.value.mT, self.error.mT, self.dtype)

    def _as(self, other: Rounded | Tensor) -> Rounded:
        return other if isinstance(other, Rounded) else Rounded(other)

    def __matmul__(self, other: Rounded | Tensor) -> Rounded:
        other = self._as(other)
        dtype = torch.promote_types(self.dtype, other.dtype)
        value = self.value @ other.value
        carried = self.size @ other.size - self.value.abs() @ other.value.abs()
        return Rounded(value, carried + _sums(self.size, other.size, dtype), dtype)

    def __add__(self, other: Rounded | Tensor) -> Rounded:
        other = self._as(other)
        dtype = torch.promote_types(self.dtype, other.dtype)
        value, carried = self.value + other.value, self.error + other.error
        return Rounded(value, carried + 2 * unit(dtype) * (value.abs() + carried), dtype)

    def __mul__(self, factor: float) -> Rounded:
        value, carried = self.value * factor, self.error * abs(factor)
        # The factor itself may be rounded to the dtype as well.
        return Rounded(value, carried + gamma(3, self.dtype) * (value.abs() + carried), self.dtype)

    def to(self, dtype: torch.dtype) -> Rounded:
        """Rounded once to another dtype."""
        smallest = torch.finfo(dtype).smallest_normal * unit(dtype)
        return Rounded(self.value, self.error + unit(dtype) * self.size + smallest, dtype)


def _sums(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """The error of a product in `dtype`, and of ours in float64 that stands for the exact one."""
    return (gamma(left.shape[-1], dtype) + gamma(left.shape[-1])) * (left @ right)


def within(found: Tensor, expected: Rounded) -> bool:
    """Whether every entry of `found` is as near to what is expected as rounding explains."""
    assert found.shape == expected.value.shape
    return bool(((found.detach().double() - expected.value).abs() <= expected.error).all())


def assert_within(found: Tensor, expected: Rounded, what: object = "") -> None:
    """Fail unless `within`, and say by how much."""
    if not within(found, expected):
        excess = ((found.detach().double() - expected.value).abs() / expected.error).nan_to_num().max()
        raise AssertionError(f"{what}: {float(excess):.3g} times as far off as rounding explains")


def assert_agree(one: Rounded, other: Rounded, found: Tensor, again: Tensor) -> None:
    """Fail unless two ways to compute the same give `found` and `again` as near as their roundings explain."""
    assert_within(found - again, Rounded(one.value - other.value, one.error + other.error))


def applied(rows: Tensor | Rounded, left: Tensor, right: Tensor | None) -> Rounded:
    """rows·T for T = I + left @ right (I + left without `right`), in float32 at least."""
    whole = rows if isinstance(rows, Rounded) else Rounded(rows)
    dtype = torch.promote_types(whole.dtype, torch.float32)
    whole, factors = Rounded(whole.value, whole.error, dtype), [left] if right is None else [left, right]
    change = whole
    for factor in factors:
        # An eraser's factors are rounded to the dtype that is computed in.
        change = change @ Rounded(factor).to(dtype)
    return whole + change


def orthogonal(rows: int, columns: int, dtype: torch.dtype = torch.float64) -> float:
    """‖error‖_F / ‖A‖_F of a QR or singular value decomposition of [rows, columns] multiplied out again."""
    return gamma(_OPERATIONS * rows * columns, dtype)


def as_lora(up: Tensor, down: Tensor, exact: Rounded) -> Rounded:
    """up @ down, as balanced factors of `exact` that were decomposed in float64 and rounded once.

    Directions of less than an eighth of float32's eps, which it would not show, may be missing.
    """
    rounded = 2 * unit(up.dtype) * (up.double().abs() @ down.double().abs())
    norm = float(exact.value.norm())
    # Two QR decompositions and one of singular values, whose factors are multiplied again.
    decomposed = 4 * orthogonal(*exact.value.shape) * norm + float(exact.error.norm())
    dropped = torch.finfo(torch.float32).eps / 8 * norm
    # The rounded factors are larger than the exact ones by their own rounding, at most.
    return Rounded(exact.value, exact.error + rounded * (1 + 4 * unit(up.dtype)) + decomposed + dropped, up.dtype)


def solve(dimension: int, condition: float, dtype: torch.dtype = torch.float64) -> float:
    """‖error‖ / ‖x‖ of x = A⁻¹b by Cholesky: ‖ΔA‖₂ ≤ n·γ_{3n+1}‖A‖₂ (Theorem 10.4), times the condition number κ₂."""
    backward = dimension * gamma(3 * dimension + 1, dtype)
    assert backward * condition < 0.5, "too ill-conditioned for a bound"
    return backward * condition / (1 - backward * condition)


def stages(dimension: int, count: int) -> float:
    """What `count` solves and products one after the other amount to, as a relative change of what they start from."""
    return count * dimension * gamma(3 * dimension + 1)


def projection_rounding(found: Projection) -> float:
    """‖error‖_F of a projection's T at most: every stage rounds, and each solve amplifies it by its condition number.

    The stages: L and the directions in it, Z by a solve with B, (VᵀZ)⁻¹ and L⁻ᵀ by solves, and the product of the factors.
    """
    dimension = found.eraser.dimension
    inner = float(torch.linalg.cond(found.readers.T @ found.directions))
    metric = float(torch.linalg.cond(found.gram)) ** 0.5
    relative = solve(dimension, found.condition) + 2 * solve(dimension, metric) + solve(dimension, inner)
    factors = float(found.eraser.left.norm() * found.eraser.right.norm())
    rounding = (relative * inner + stages(dimension, 3)) * factors
    assert rounding < 1e-3, "this would not find a mistake"
    return rounding


def sensitivity(run: Callable[[Noise], Tensor], tries: int = 3, size: float = 2.0**-26) -> float:
    """How much further the result of `run` moves than its inputs, of which it passes each through the noise that it gets.

    The condition number of a whole computation, as measured: ‖change of the result‖_F for a relative change of one of
    every input's entries. Changes are at random and small enough for the result to follow them linearly.
    """
    generator = torch.Generator().manual_seed(0)
    exact = run(lambda tensor: tensor)

    def noisy(tensor: Tensor) -> Tensor:
        return tensor * (1 + size * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))

    return max(float((run(noisy) - exact).norm()) for _ in range(tries)) / size


def assert_same_up_to(one: Any, other: Any, error: float, what: object = "") -> None:
    """Fail unless ‖one − other‖_F ≤ error."""
    one, other = (torch.as_tensor(side, dtype=torch.float64) for side in (one, other))
    apart = float((one - other).norm())
    assert apart <= error, f"{what}: {apart:.3g} apart, where rounding explains {error:.3g}"
