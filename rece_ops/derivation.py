"""RECE's derivation: the embedding that regenerates a concept from edited weights.

With the original projections W_l and the edited ones W_l', the embedding whose edited outputs come closest to the
concept's original ones, Σ_l ‖W_l' c' − W_l c‖² + λ_r ‖c'‖², is

    c' = K c    K = (λ_r I + Q)⁻¹ Nᵀ    Q = Σ_l W_l'ᵀ W_l'    N = Σ_l W_lᵀ W_l'

(Eq. 7 of arXiv:2407.12383). With W' = W·T these are Q = TᵀGT and N = GT, so that no weight is needed but for G.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .eraser import Eraser
from .errors import InputError
from .gram import check_projection, check_reads
from .gram_sum import GramSum
from .linalg import SPDSolver, add_to_diagonal, float64_device, mirror_upper, to_float64
from .low_rank import LowRankSystem
from .steps import Progress, Steps

_PURPOSE = "The derivation of the embedding that regenerates the concept"
# Up to a dimension's share of one in this many, a rank is so low that products with r×r matrices are cheaper than factoring.
_FEW = 8
_REMEDY = "Raise 'regularization', or use fewer epochs."


class RegularizedGram:
    """G [d, d] (float64) and λ_r, and λ_r I + G, factored once when first needed: no edit changes it."""

    def __init__(self, gram: Tensor, regularization: float) -> None:
        self.gram, self.regularization = gram, regularization

    @cached_property
    def solver(self) -> SPDSolver:
        """λ_r I + G."""
        return SPDSolver(add_to_diagonal(self.gram.clone(), self.regularization), _PURPOSE, _REMEDY)


class DenseSystem:
    """M = λ_r I + Q, factored.

    Args:
        cross: N [d, d], float64.
        edited: Q [d, d], float64; taken over.
        regularization: λ_r.

    Raises:
        NumericalError: M is too ill-conditioned.
    """

    def __init__(self, cross: Tensor, edited: Tensor, regularization: float) -> None:
        self._cross = cross
        self._solver = SPDSolver(add_to_diagonal(edited, regularization), _PURPOSE, _REMEDY)
        self.condition, self.smallest = self._solver.condition, self._solver.smallest

    def rows(self, rows: Tensor | None) -> Tensor:
        """M⁻¹Nᵀc for every row c [n, d] (None: for the rows of the identity)."""
        return self._solver.solve_rows(self._cross if rows is None else rows @ self._cross)

    def solve(self, columns: Tensor) -> Tensor:
        """M⁻¹·columns, [d, n]."""
        return self._solver.solve_columns(columns)


class Derivation:
    """The linear map K, its system factored once.

    Attributes:
        condition: condition number κ₂ of λ_r I + Q.
        smallest: the smallest eigenvalue of λ_r I + Q.
    """

    def __init__(self, system: DenseSystem | LowRankSystem) -> None:
        self._system = system
        self.condition, self.smallest = system.condition, system.smallest

    @classmethod
    def of_eraser(cls, base: RegularizedGram, eraser: Eraser) -> Derivation:
        """From weights W·T, by G of the original projections and T.

        Raises:
            NumericalError: λ_r I + TᵀGT is too ill-conditioned.
        """
        gram, regularization = base.gram, base.regularization
        transform = eraser.to(gram.device, gram.dtype)
        if transform.is_dense or transform.rank * _FEW > transform.dimension:
            return cls(DenseSystem(*_moments_of_eraser(gram, transform), regularization))
        return cls.of_thin_eraser(base, transform)

    @classmethod
    def of_thin_eraser(cls, base: RegularizedGram, transform: Eraser) -> Derivation:
        """The same for a T that is kept thin, in float64, however high its rank is."""
        return cls(LowRankSystem(base.solver, base.gram, transform, base.regularization, _PURPOSE, _REMEDY))

    def rows(self, rows: Tensor | None) -> Tensor:
        """K c for every row c [n, d] (None: for the rows of the identity), in float64."""
        return self._system.rows(rows)

    def solve(self, columns: Tensor) -> Tensor:
        """(λ_r I + Q)⁻¹·columns, [d, n], in float64."""
        return self._system.solve(columns)


def derive_embedding(gram: Tensor, eraser: Eraser, concept: Tensor, regularization: float) -> Tensor:
    """The embedding [n, d] that regenerates `concept` [n, d] from the erased weights."""
    derivation = Derivation.of_eraser(RegularizedGram(gram, regularization), eraser)
    return embedding(derivation, concept, gram.device)


def embedding(derivation: Derivation, concept: Tensor, device: torch.device) -> Tensor:
    """K c for every token of `concept` [n, d], in its dtype and on its device; K is on `device`."""
    return derivation.rows(to_float64(concept, device)).to(concept.dtype).to(concept.device)


@dataclass(frozen=True, eq=False)
class WeightMoments:
    """G = Σ WᵀW, Q = Σ W'ᵀW' and N = Σ WᵀW' of original and edited projections: each [d, d], float64."""

    original: Tensor
    edited: Tensor
    cross: Tensor

    @classmethod
    def of_weights(
        cls, original: Mapping[str, Tensor], edited: Mapping[str, Tensor], progress: Progress | None = None
    ) -> WeightMoments:
        """One pass over both sets of projections, which must have the same names.

        Raises:
            InputError: the two have different projections, or one is damaged.
        """
        if not original or list(original) != list(edited):
            raise InputError(
                "The original and the edited model have different projections: take two states of one model."
            )
        steps = Steps(progress, len(original))
        sums: tuple[GramSum, GramSum] | None = None
        for name in original:
            before, after = original[name], edited[name]
            if sums is None:
                dimension, device = before.shape[-1], float64_device(before.device)
                sums = GramSum(dimension, device), GramSum(dimension, device)
                cross = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
            for weight in (before, after):
                check_projection(name, weight, dimension)
            if before.shape != after.shape:
                raise InputError(
                    f"The projection '{name}' is {list(before.shape)} in the original model and {list(after.shape)} in "
                    "the edited one: take two states of one model."
                )
            sums[0].add(before)
            sums[1].add(after)
            cross.addmm_(to_float64(before, device).T, to_float64(after, device))
            steps.done("reading projections")
        assert sums is not None  # there is at least one projection
        return cls(sums[0].total(), sums[1].total(), cross)

    @classmethod
    def of_eraser(cls, gram: Tensor, eraser: Eraser) -> WeightMoments:
        """Those of W' = W·T: Q = TᵀGT and N = GT."""
        cross, edited = _moments_of_eraser(gram, eraser)
        return cls(gram, edited, cross)


def _moments_of_eraser(gram: Tensor, eraser: Eraser) -> tuple[Tensor, Tensor]:
    """N = GT and Q = TᵀGT."""
    transform = eraser.to(gram.device, gram.dtype)
    cross = transform.apply_to_weight(gram)
    return cross, mirror_upper(transform.apply_to_weight(cross.T))


@dataclass(frozen=True, eq=False)
class Regenerated:
    """What a derivation found.

    Attributes:
        tokens: c' [n, d], in the dtype and on the device of the concept.
        regeneration: max(0, 1 − ‖W' c' − W c‖ / ‖W c* − W c‖) over all tokens and projections.
        condition: condition number κ₂ of λ_r I + Q.
    """

    tokens: Tensor
    regeneration: float
    condition: float


def regenerate(moments: WeightMoments, concept: Tensor, target: Tensor, regularization: float) -> Regenerated:
    """The embedding that regenerates `concept` [n, d] from the edited weights.

    Args:
        moments: of the weights.
        concept: token embeddings.
        target: [n, d], what the regeneration is measured against (usually the empty prompt).
        regularization: λ_r.

    Raises:
        InputError: concept and weights have different dimensions.
        NumericalError: λ_r I + Q is too ill-conditioned.
    """
    check_reads(moments.original, concept.shape[-1])
    derivation = Derivation(DenseSystem(moments.cross, moments.edited.clone(), regularization))
    wanted, harmless = (to_float64(tokens, moments.original.device) for tokens in (concept, target))
    derived = derivation.rows(wanted)
    energy = _energy(derived, moments.edited) - 2 * float((wanted @ moments.cross * derived).sum())
    missed = max(energy + _energy(wanted, moments.original), 0.0)
    apart = _energy(harmless - wanted, moments.original)
    regeneration = max(0.0, 1 - (missed / apart) ** 0.5) if apart > 0 else 0.0
    return Regenerated(derived.to(concept.dtype).to(concept.device), regeneration, derivation.condition)


def _energy(rows: Tensor, gram: Tensor) -> float:
    return float(((rows @ gram) * rows).sum().clamp(min=0))
