"""Products of which only what is right of the diagonal is computed, and systems that are factored in their own place."""

from __future__ import annotations

import pytest
import torch
from bounds import Rounded, assert_within, solve
from rece_pack.rece_ops import NumericalError
from rece_pack.rece_ops.linear.solves import SPDSolver, add_product, congruence, inverse_trace, is_above
from torch import Tensor

# One panel, a whole and a part of another.
DIMENSIONS = [5, 256, 300]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(dimension: int) -> Tensor:
    """Symmetric, with eigenvalues of about 1 to 5."""
    rows = normal(2 * dimension, dimension) * dimension**-0.5
    return (rows.T @ rows).add_(torch.eye(dimension))


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_symmetric_product_is_added(dimension: int) -> None:
    rows, start = normal(7, dimension), positive(dimension)
    expected = Rounded(start) + Rounded(rows).T @ Rounded(rows)
    found = add_product(start.clone(), rows, rows)
    assert torch.equal(found, found.T)
    assert_within(found, expected)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_congruence_is_the_product_of_three(dimension: int) -> None:
    matrix, linear = positive(dimension), normal(dimension, dimension, seed=1)
    expected = Rounded(linear).T @ (Rounded(matrix) @ Rounded(linear))
    found = congruence(matrix, linear)
    assert torch.equal(found, found.T)
    assert_within(found, expected)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_system_is_solved_in_the_place_of_its_matrix(dimension: int) -> None:
    matrix = positive(dimension)
    taken = matrix.clone()
    solver = SPDSolver(taken, "It", "Mend it.")
    assert solver._lower.untyped_storage().data_ptr() == taken.untyped_storage().data_ptr()
    error = solve(dimension, float(torch.linalg.cond(matrix)))
    rows = normal(3, dimension)
    exact = torch.linalg.solve(matrix, rows.T).T
    # As much again for the solution that it is compared with.
    assert (solver.solve_rows(rows) - exact).norm() <= 2 * error * exact.norm()
    assert (solver.solve_columns(rows.T) - exact.T).norm() <= 2 * error * exact.norm()
    assert torch.equal(solver.solve_rows(rows.clone(), overwrite=True), solver.solve_rows(rows))


def test_what_is_not_positive_definite_is_refused_and_asked_for_without_harm() -> None:
    matrix = positive(40)
    kept, least = matrix.clone(), float(torch.linalg.eigvalsh(matrix)[0])
    assert is_above(matrix, 0.99 * least)
    assert not is_above(matrix, 1.01 * least)
    assert torch.equal(matrix, kept)
    with pytest.raises(NumericalError, match=r"It cannot be solved: its matrix is not positive definite\. Mend it\."):
        SPDSolver(matrix - 1.01 * least * torch.eye(40), "It", "Mend it.")


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_trace_of_an_inverse_is_that_of_the_inverse(dimension: int) -> None:
    matrix = positive(dimension)
    expected = float(torch.linalg.inv(matrix).trace())
    # Of both sides each column of an inverse is as far off as a solve.
    error = 4 * solve(dimension, float(torch.linalg.cond(matrix)))
    assert inverse_trace(torch.linalg.cholesky(matrix)) == pytest.approx(expected, rel=error)
