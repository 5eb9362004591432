"""Float64 linear algebra: symmetric positive definite solves, and how far they can be trusted."""

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

LANCZOS_STEPS = 12
# Columns to a panel of a product that is symmetric: wide enough to keep a device busy.
_PANEL = 256
# A direction of which less than this is new is rounding.
_LOST = 1e-12


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


def add_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add leftᵀ·right [d, d] to `total` where the sum is symmetric, in place: only what is right of the diagonal is computed."""
    for start in range(0, total.shape[0], _PANEL):
        stop = start + _PANEL
        total[start:stop, start:].addmm_(left[:, start:stop].T, right[:, start:])
    return mirror_upper(total)


def congruence(matrix: Tensor, linear: Tensor) -> Tensor:
    """linearᵀ·matrix·linear for a symmetric `matrix`, [d, d] both, a few columns at a time: no product is ever whole."""
    total = torch.empty_like(matrix)
    for start in range(0, total.shape[0], _PANEL):
        stop = start + _PANEL
        torch.mm(linear[:, :stop].T, matrix @ linear[:, start:stop], out=total[:stop, start:stop])
    return mirror_upper(total)


def inverse_trace(lower: Tensor) -> float:
    """tr A⁻¹ = ‖L⁻¹‖²_F for A = LLᵀ with a lower triangular L [d, d]; L⁻¹ is never whole."""
    total = 0.0
    for start in range(0, lower.shape[0], _PANEL):
        rest = lower[start:, start:]
        columns = torch.eye(len(rest), min(_PANEL, len(rest)), dtype=lower.dtype, device=lower.device)
        solved = torch.linalg.solve_triangular(rest, columns, upper=False)
        total += float(torch.linalg.vector_norm(solved)) ** 2
    return total


def add_to_diagonal(matrix: Tensor, value: float) -> Tensor:
    """Add `value` to the diagonal of `matrix`, in place, and return it."""
    matrix.diagonal().add_(value)
    return matrix


def is_above(matrix: Tensor, bound: float) -> bool:
    """Whether every eigenvalue of the symmetric `matrix` [d, d] is above `bound`."""
    return _factored(add_to_diagonal(matrix.clone(), -bound)) is not None


def cholesky(matrix: Tensor, purpose: str, remedy: str) -> Tensor:
    """The lower factor [d, d] of a symmetric positive definite matrix, in its place; raises NumericalError if it is not."""
    lower = _factored(matrix)
    if lower is None:
        raise NumericalError(f"{purpose} cannot be solved: its matrix is not positive definite. {remedy}")
    return lower


def _factored(matrix: Tensor) -> Tensor | None:
    """The lower factor of the symmetric `matrix`, in its place; None where it is not positive definite."""
    # Column by column, as LAPACK has it, a symmetric matrix is its own transpose.
    lower, info = matrix.T, torch.empty((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(lower, out=(lower, info))
    return lower if int(info) == 0 else None


def check_condition(condition: float, purpose: str, remedy: str) -> None:
    """Raise NumericalError if a system with that condition number cannot be solved."""
    if not condition <= MAX_CONDITION:
        raise NumericalError(
            f"{purpose} is too ill-conditioned to be solved in float64 "
            f"(condition number {condition:.1e}, limit {MAX_CONDITION:.1e}). {remedy}"
        )


class SPDSolver:
    """A symmetric positive definite system A·x = b, factored once by Cholesky.

    Args:
        matrix: [d, d] float64, symmetric positive definite; taken over.
        purpose: what is being solved, for the error message.
        remedy: which setting to change if it cannot be solved.

    Attributes:
        largest, largest_vector: the largest eigenvalue (see `largest_eigenvalue`), and its vector [d, 1].
        smallest, smallest_vector: the smallest.
        condition: condition number κ₂.

    Raises:
        NumericalError: A is not positive definite, or its condition number exceeds 2^41 ≈ 2.2e12.
    """

    def __init__(self, matrix: Tensor, purpose: str, remedy: str) -> None:
        self._lower = cholesky(matrix, purpose, remedy)
        self.condition = self._estimate_condition()
        check_condition(self.condition, purpose, remedy)

    def solve_rows(self, rows: Tensor, overwrite: bool = False) -> Tensor:
        """Solve A·x = b for every row b of `rows` [n, d]; the solutions are the rows of the result.

        With `overwrite` they may take the place of `rows`, which saves a matrix of that size.
        """
        return self._solve(rows.T if overwrite and rows.is_contiguous() else rows.clone().T).T

    def solve_columns(self, columns: Tensor) -> Tensor:
        """A⁻¹·columns for `columns` [d, n], in a new tensor."""
        return self._solve(columns.T.clone(memory_format=torch.contiguous_format).T)

    def _solve(self, columns: Tensor) -> Tensor:
        """A⁻¹·columns for column-major `columns` [d, n], in their place: two triangular solves."""
        torch.linalg.solve_triangular(self._lower, columns, upper=False, out=columns)
        torch.linalg.solve_triangular(self._lower.T, columns, upper=True, out=columns)
        return columns

    def _estimate_condition(self) -> float:
        """κ₂(A) = λ_max(A)·λ_max(A⁻¹) by a few Lanczos steps each: a lower bound, tight to a few per cent."""
        lower = self._lower
        start = random_column(lower.shape[0], lower.device)
        self.largest, self.largest_vector = largest_eigenvalue(lambda x: lower @ (lower.T @ x), start, LANCZOS_STEPS)
        inverse, self.smallest_vector = largest_eigenvalue(self.solve_columns, start, LANCZOS_STEPS)
        self.smallest = 1 / inverse
        return self.largest * inverse


def random_column(dimension: int, device: torch.device) -> Tensor:
    """The same normally distributed [dimension, 1] every time, in float64."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(dimension, 1, generator=generator, dtype=torch.float64).to(device)


def largest_eigenvalue(apply: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> tuple[float, Tensor]:
    """The largest eigenvalue of a symmetric positive map of columns [d, 1], and its vector, from a Krylov space.

    Args:
        apply: the map.
        start: [d, 1]; one near the vector that is looked for saves steps.
        steps: how often the map is applied.

    Returns:
        A lower bound, tight to a few per cent with `LANCZOS_STEPS` from a random vector.
    """
    steps = min(steps, len(start))
    basis, images = (torch.zeros(len(start), steps, dtype=start.dtype, device=start.device) for _ in range(2))
    column, step = unit(start), 0
    while step < steps:
        new = column
        # Twice, because rounding would otherwise bring known directions back.
        for _ in range(2):
            new = new - basis[:, :step] @ (basis[:, :step].T @ new)
        if not float(torch.linalg.vector_norm(new)) > _LOST:
            break
        basis[:, step : step + 1] = unit(new)
        column = apply(basis[:, step : step + 1].contiguous())
        images[:, step : step + 1] = column
        column, step = unit(column), step + 1
    projected = (basis[:, :step].T @ images[:, :step]).cpu()
    values, vectors = torch.linalg.eigh((projected + projected.T) / 2)
    return float(values[-1]), basis[:, :step] @ vectors[:, -1:].to(basis.device)


def unit(column: Tensor) -> Tensor:
    """`column` [d, 1] with norm one (zero stays zero)."""
    length: Tensor = torch.linalg.vector_norm(column)
    return column / length.clamp(min=torch.finfo(column.dtype).tiny)
