"""Float64 linear algebra: Gram accumulation and symmetric positive definite solves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ..errors import NumericalError

# Beyond this condition number a float64 solve (unit roundoff 2^-52) is less accurate than the
# rounding of a float16 weight (2^-11), so its result no longer means anything: 2^-11 / 2^-52.
MAX_CONDITION = 2.0**41
# From here on the change of a weight agrees with the exact one to less than 1e-6.
WARN_CONDITION = 1e-6 * 2.0**52

_LANCZOS_STEPS = 12


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


class GramSum:
    """Σ w·XᵀX over matrices X [n, d], as a float64 matrix [d, d] on one device.

    Only panels right of the diagonal are computed, since the sum is symmetric: 44 % of the work is saved.
    Rows are gathered into chunks of d, so that many small matrices keep the device as busy as one large one;
    the sum and the chunk are all the memory that is used.
    """

    def __init__(self, dimension: int, device: torch.device) -> None:
        self._upper = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
        self._chunk = torch.empty(dimension, dimension, dtype=torch.float64, device=device)
        self._filled = 0

    def add(self, rows: Tensor, weight: float = 1.0) -> None:
        """Add weight·rowsᵀ·rows of `rows` [n, d], of any dtype and on any device."""
        for part in torch.split(rows, self._chunk.shape[0]):
            if self._filled + part.shape[0] > self._chunk.shape[0]:
                self._flush()
            block = self._chunk[self._filled : self._filled + part.shape[0]]
            # Moved first and cast then: the other device may have no float64.
            block.copy_(part.to(self._chunk.device))
            if weight != 1.0:
                block.mul_(weight**0.5)
            self._filled += part.shape[0]

    def total(self) -> Tensor:
        """The sum [d, d]; nothing may be added afterwards."""
        self._flush()
        del self._chunk
        return mirror_upper(self._upper)

    def _flush(self) -> None:
        rows = self._chunk[: self._filled]
        # Wide enough to keep the device busy, narrow enough to skip most of the lower triangle.
        width = 192 if rows.device.type == "cpu" else 1024
        for start in range(0, rows.shape[1], width):
            panel = rows[:, start : start + width]
            self._upper[start : start + width, start:].addmm_(panel.T, rows[:, start:])
        self._filled = 0


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

    def solve_rows(self, rows: Tensor, overwrite: bool = False) -> Tensor:
        """Solve A·x = b for every row b of `rows` [n, d]; the solutions are the rows of the result.

        With `overwrite` they may take the place of `rows`, which saves a matrix of that size.
        """
        return self._solve(rows.T if overwrite and rows.is_contiguous() else rows.clone().T).T

    def _solve(self, columns: Tensor) -> Tensor:
        """A⁻¹·columns for column-major `columns` [d, n], in their place: two triangular solves."""
        torch.linalg.solve_triangular(self._lower, columns, upper=False, out=columns)
        torch.linalg.solve_triangular(self._lower.T, columns, upper=True, out=columns)
        return columns

    def _estimate_condition(self) -> float:
        """κ₂(A) = λ_max(A)·λ_max(A⁻¹) by a few Lanczos steps each: a lower bound, tight to a few per cent."""
        lower = self._lower

        start = torch.randn(lower.shape[0], 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        start = start.to(lower.device)
        return _largest_eigenvalue(lambda x: lower @ (lower.T @ x), start) * _largest_eigenvalue(
            lambda x: self._solve(x.clone()), start
        )


def _largest_eigenvalue(apply: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """The largest eigenvalue of a symmetric positive map of columns [d, 1], from the Krylov space of `start`."""
    steps = min(_LANCZOS_STEPS, start.shape[0])
    basis = torch.zeros(steps, start.shape[0], dtype=start.dtype, device=start.device)
    images = torch.zeros_like(basis)
    vector = start[:, 0]
    for step in range(steps):
        # Twice, because rounding would otherwise bring known directions back.
        for _ in range(2):
            vector = vector - basis[:step].T @ (basis[:step] @ vector)
        basis[step] = vector / torch.linalg.vector_norm(vector).clamp(min=torch.finfo(vector.dtype).tiny)
        images[step] = apply(basis[step, :, None])[:, 0]
        vector = images[step]
    projected = basis @ images.T
    return float(torch.linalg.eigvalsh((projected + projected.T) / 2)[-1])
