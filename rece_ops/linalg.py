"""Float64 linear algebra: Gram accumulation and symmetric positive definite solves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from .errors import NumericalError

# Beyond this condition number a float64 solve (unit roundoff 2^-52) is less accurate than the
# rounding of a float16 weight (2^-11), so its result no longer means anything: 2^-11 / 2^-52.
MAX_CONDITION = 2.0**41
# From here on the change of a weight agrees with the exact one to less than 1e-6.
WARN_CONDITION = 1e-6 * 2.0**52

_ESTIMATE_VECTORS = 4
_ESTIMATE_STEPS = 10


@cache
def _has_float64(device: torch.device) -> bool:
    try:
        torch.ones(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def float64_device(device: torch.device) -> torch.device:
    """`device` itself where it computes in float64, else the CPU (MPS, DirectML)."""
    return device if _has_float64(device) else torch.device("cpu")


def to_float64(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` in float64 on `device`; the cast happens on the side that has float64."""
    if tensor.device != device and not _has_float64(tensor.device):
        return tensor.to(device).to(torch.float64)
    return tensor.to(device=device, dtype=torch.float64)


def add_upper_gram(total: Tensor, rows: Tensor) -> None:
    """Add the upper block triangle of rowsᵀ·rows to `total`, in place.

    A Gram matrix is symmetric: computing panels right of the diagonal only saves 40 % of the work.
    Call `mirror_upper` once, after the last addition.

    Args:
        total: [d, d] float64.
        rows: [n, d] float64 on the same device.
    """
    dimension = total.shape[0]
    # Wide enough to keep the device busy, narrow enough to skip most of the lower triangle.
    width = 256 if total.device.type == "cpu" else 1024
    for start in range(0, dimension, width):
        total[start : start + width, start:].addmm_(rows[:, start : start + width].T, rows[:, start:])


def mirror_upper(total: Tensor) -> Tensor:
    """Copy the upper triangle of `total` [d, d] onto its lower one, in place, and return it."""
    dimension = total.shape[0]
    width = 256
    for start in range(0, dimension, width):
        stop = min(start + width, dimension)
        total[stop:, start:stop] = total[start:stop, stop:].T
        block = total[start:stop, start:stop]
        block.copy_(block.triu() + block.triu(1).T)
    return total


def add_to_diagonal(matrix: Tensor, value: float) -> Tensor:
    """Add `value` to the diagonal of `matrix`, in place, and return it."""
    matrix.diagonal().add_(value)
    return matrix


class SPDSolver:
    """A symmetric positive definite system A·x = b, factored once by Cholesky.

    Args:
        matrix: [d, d] float64, symmetric positive definite.
        purpose: what is being solved, for the error message.
        remedy: which setting to change if it cannot be solved.

    Raises:
        NumericalError: A is not positive definite, or its condition number exceeds 2^41 ≈ 2.2e12.
    """

    def __init__(self, matrix: Tensor, purpose: str, remedy: str) -> None:
        self._lower, failed_at = torch.linalg.cholesky_ex(matrix)
        if int(failed_at) != 0:
            raise NumericalError(f"{purpose} cannot be solved: its matrix is not positive definite. {remedy}")
        self.condition = self._estimate_condition()
        if not self.condition <= MAX_CONDITION:
            raise NumericalError(
                f"{purpose} is too ill-conditioned to be solved in float64 "
                f"(condition number {self.condition:.1e}, limit {MAX_CONDITION:.1e}). {remedy}"
            )

    def solve_rows(self, rows: Tensor) -> Tensor:
        """Solve A·x = b for every row b of `rows` [n, d]; the solutions are the rows of the result."""
        return torch.cholesky_solve(rows.T, self._lower).T

    def _estimate_condition(self) -> float:
        """κ₂(A) = σ_max/σ_min by block power and inverse iteration: a lower bound, tight to a few per cent."""
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(self._lower.shape[0], _ESTIMATE_VECTORS, generator=generator, dtype=torch.float64).to(
            self._lower.device
        )
        largest = self._power_norm(start, lambda x: self._lower @ (self._lower.T @ x))
        smallest = self._power_norm(start, lambda x: torch.cholesky_solve(x, self._lower))
        return largest * smallest

    @staticmethod
    def _power_norm(start: Tensor, apply: Callable[[Tensor], Tensor]) -> float:
        vectors = start
        norms = torch.linalg.vector_norm(vectors, dim=0)
        for _ in range(_ESTIMATE_STEPS):
            vectors = apply(vectors / norms)
            norms = torch.linalg.vector_norm(vectors, dim=0)
        return float(norms.max())
