"""The system of a derivation where T differs from the identity in few directions only.

With T = I + L R, M = λ_r I + TᵀGT is solved through A = λ_r I + G, which no edit changes. Z [d, r] is an orthonormal basis
of the rows of R, so that T x = x wherever Zᵀx = 0, and Y = TZ. Splitting x = x⊥ + Zα gives, with H = ZᵀA⁻¹Z,

    P = A⁻¹ − A⁻¹Z H⁻¹ ZᵀA⁻¹                            A's inverse where Zᵀx = 0
    F = G − GPG = λ_r(I − λ_r A⁻¹) + (I − λ_r A⁻¹)Z H⁻¹ Zᵀ(I − λ_r A⁻¹)
    S = λ_r I + YᵀFY                                    what is left of M for α: [r, r]
    V = Z − PGY
    M⁻¹ = P + V S⁻¹ Vᵀ        M⁻¹TᵀG = PG + V S⁻¹ YᵀF

Every term of F and S is positive semidefinite: nothing large cancels, however close to singular T is. PG needs no product
with G: A⁻¹G = I − λ_r A⁻¹. So an erasure of n tokens takes one Cholesky of A, and then only products of order d²·n.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from .solves import (
    LANCZOS_STEPS,
    SPDSolver,
    add_to_diagonal,
    check_condition,
    cholesky,
    largest_eigenvalue,
    random_column,
    unit,
)

# Few, since they start from a good guess.
_STEPS = 6


class RegularizedGram:
    """G and λ_r, and A = λ_r I + G, factored when first needed: no edit changes it.

    Args:
        gram: G [d, d], float64.
        regularization: λ_r.
        purpose, remedy: see `SPDSolver`.
    """

    def __init__(self, gram: Tensor, regularization: float, purpose: str, remedy: str) -> None:
        self.gram, self.regularization, self.purpose, self.remedy = gram, regularization, purpose, remedy

    @cached_property
    def solver(self) -> SPDSolver:
        """A.

        Raises:
            NumericalError: it is too ill-conditioned.
        """
        return SPDSolver(add_to_diagonal(self.gram.clone(), self.regularization), self.purpose, self.remedy)


class ThinSystem:
    """M⁻¹ and M⁻¹TᵀG for one T.

    Args:
        base: G and A.
        left: L [d, r], float64.
        right: R [r, d], float64.

    Attributes:
        condition: κ₂(M), a lower bound, tight to a few per cent.
        smallest: M's smallest eigenvalue, an upper bound.

    Raises:
        NumericalError: M is too ill-conditioned.
    """

    def __init__(self, base: RegularizedGram, left: Tensor, right: Tensor) -> None:
        self._base, self._left, self._right = base, left, right
        self._span, reduced = torch.linalg.qr(right.T)
        self._moved = torch.addmm(self._span, left, reduced.T)
        self._solved_span, self._solved_moved = map(base.solver.solve_columns, (self._span, self._moved))
        self._inner = self._factor(self._span.T @ self._solved_span)
        self._coupling = self._span.T @ self._moved - base.regularization * (self._span.T @ self._solved_moved)
        self._small = self._factor(self._small_system())
        self._reach = self._confined_image(self._moved, self._solved_moved).neg_().add_(self._span)
        self.condition = self._estimate_condition()
        check_condition(self.condition, base.purpose, base.remedy)

    def of_identity(self) -> Tensor:
        """M⁻¹TᵀG c for every row c of the identity, [d, d]."""
        return self.of_tokens(torch.eye(len(self._span)).to(self._span))

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """M⁻¹TᵀG c for every token c [n, d]."""
        weight, columns = self._base.regularization, tokens.T
        solved = self._base.solver.solve_columns(columns)
        image = self._confined_image(columns, solved)
        outside = self._span.T @ columns - weight * (self._solved_span.T @ columns)
        reached = weight * (self._moved.T @ columns - weight * (self._solved_moved.T @ columns))
        reached += self._coupling.T @ torch.cholesky_solve(outside, self._inner)
        return image.addmm_(self._reach, torch.cholesky_solve(reached, self._small)).T

    def solve(self, columns: Tensor) -> Tensor:
        """M⁻¹·columns, [d, n]."""
        solved = self._confined(self._base.solver.solve_columns(columns))
        return torch.addmm(solved, self._reach, torch.cholesky_solve(self._reach.T @ columns, self._small))

    def _small_system(self) -> Tensor:
        """S = λ_r I + YᵀFY."""
        weight, moved = self._base.regularization, self._moved
        system = weight * (moved.T @ moved - weight * (moved.T @ self._solved_moved))
        system += self._coupling.T @ torch.cholesky_solve(self._coupling, self._inner)
        return add_to_diagonal(system, weight)

    def _confined(self, solved: Tensor) -> Tensor:
        """P b from A⁻¹b."""
        return torch.addmm(
            solved, self._solved_span, torch.cholesky_solve(self._span.T @ solved, self._inner), alpha=-1
        )

    def _confined_image(self, columns: Tensor, solved: Tensor) -> Tensor:
        """PG b = b − A⁻¹Z H⁻¹ Zᵀb − λ_r P b from b and A⁻¹b."""
        inside = torch.cholesky_solve(self._span.T @ columns, self._inner)
        image = torch.addmm(columns, self._solved_span, inside, alpha=-1)
        image.sub_(solved, alpha=self._base.regularization)
        inside = torch.cholesky_solve(self._span.T @ solved, self._inner)
        return image.addmm_(self._solved_span, inside, alpha=self._base.regularization)

    def _estimate_condition(self) -> float:
        """κ₂(M), a lower bound, from Krylov spaces that begin with what A and S tell."""
        solver = self._base.solver
        some = 0.1 * unit(random_column(len(self._span), self._span.device))
        # The vector that S⁻¹ stretches most.
        least = torch.linalg.eigh(torch.cholesky_inverse(self._small)).eigenvectors[:, -1:]
        # T can lift another vector above A's largest.
        largest, _ = largest_eigenvalue(self._apply, solver.largest_vector + some, LANCZOS_STEPS)
        start = solver.smallest_vector + unit(self._reach @ least) + some
        inverse, _ = largest_eigenvalue(self.solve, start, _STEPS)
        self.smallest = 1 / inverse
        return largest * inverse

    def _apply(self, columns: Tensor) -> Tensor:
        """M·columns."""
        images = self._base.gram @ torch.addmm(columns, self._left, self._right @ columns)
        images.addmm_(self._right.T, self._left.T @ images)
        return images.add_(columns, alpha=self._base.regularization)

    def _factor(self, matrix: Tensor) -> Tensor:
        """The Cholesky factor of a matrix that is symmetric up to rounding."""
        return cholesky((matrix + matrix.T) / 2, self._base.purpose, self._base.remedy)
