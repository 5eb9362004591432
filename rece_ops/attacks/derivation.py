"""RECE's derivation: the embedding that regenerates a concept from edited weights.

With the original weights W_l and the edited ones W_l', the embedding whose edited outputs come closest to the
concept's original ones, Σ_l ‖W_l' c' − W_l c‖² + λ_r ‖c'‖², is

    c' = K c    K = (λ_r I + Q)⁻¹ Nᵀ    Q = Σ_l W_l'ᵀ W_l'    N = Σ_l W_lᵀ W_l'

(Eq. 7 of arXiv:2407.12383). With W' = W·T these are Q = TᵀGT and N = GT, so that G is all that is needed of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..eraser import Eraser
from ..errors import InputError
from ..linear.gram import check_projection, check_reads
from ..linear.gram_sum import GramSum
from ..linear.solves import SPDSolver, add_product, add_to_diagonal, float64_device, to_float64
from ..linear.thin_system import RegularizedGram, ThinSystem
from ..progress import Progress, Steps
from ..texts import quoted

_PURPOSE = "The derivation of the embedding that regenerates the concept"
_REMEDY = "Raise 'regularization', or use fewer epochs."


class DenseSystem:
    """M = λ_r I + Q, factored.

    Args:
        cross: N [d, d], float64; `of_identity` takes it over.
        edited: Q [d, d], float64; taken over.
        regularization: λ_r.

    Attributes:
        condition: κ₂(M), a lower bound, tight to a few per cent.
        smallest: M's smallest eigenvalue, an upper bound.

    Raises:
        NumericalError: M is too ill-conditioned.
    """

    def __init__(self, cross: Tensor, edited: Tensor, regularization: float) -> None:
        self._cross = cross
        self._solver = SPDSolver(add_to_diagonal(edited, regularization), _PURPOSE, _REMEDY)
        self.condition, self.smallest = self._solver.condition, self._solver.smallest

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """K c = M⁻¹Nᵀc for every token c [n, d], in float64."""
        return self._solver.solve_rows(tokens @ self._cross, overwrite=True)

    def of_identity(self) -> Tensor:
        """K c for every row c of the identity, [d, d], in the place of N: the last that is asked for."""
        return self._solver.solve_rows(self._cross, overwrite=True)

    def solve(self, columns: Tensor) -> Tensor:
        """M⁻¹·columns, [d, n], in float64."""
        return self._solver.solve_columns(columns)


Derivation: TypeAlias = DenseSystem | ThinSystem
"""The linear map K, its system factored once."""


class Derivations:
    """Derivations from several edits W·T of the same weights.

    Args:
        gram: G [d, d] of the original key and value weights, float64.
        regularization: λ_r.
    """

    def __init__(self, gram: Tensor, regularization: float) -> None:
        self.base = RegularizedGram(gram, regularization, _PURPOSE, _REMEDY)

    def of_eraser(self, eraser: Eraser) -> Derivation:
        """From weights W·T.

        Raises:
            NumericalError: λ_r I + TᵀGT is too ill-conditioned.
        """
        gram = self.base.gram
        transform = eraser.to(gram.device, gram.dtype)
        left, right = transform.factors()
        if right is None:
            return DenseSystem(*_moments_of_eraser(gram, transform), self.base.regularization)
        return ThinSystem(self.base, left, right)

    def embeddings(self, eraser: Eraser, concepts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """K c for every token c of each of `concepts` [n, d], in its dtype and on its device."""
        derivation, device = self.of_eraser(eraser), self.base.gram.device
        derived = (derivation.of_tokens(to_float64(concept, device)) for concept in concepts)
        return tuple(
            found.to(concept.dtype).to(concept.device) for found, concept in zip(derived, concepts, strict=True)
        )


def derive_embedding(gram: Tensor, eraser: Eraser, concept: Tensor, regularization: float) -> Tensor:
    """The embedding [n, d] that regenerates `concept` [n, d] from the erased weights."""
    return Derivations(gram, regularization).embeddings(eraser, [concept])[0]


@dataclass(frozen=True, eq=False)
class WeightMoments:
    """G = Σ WᵀW, Q = Σ W'ᵀW' and N = Σ WᵀW' of original and edited weights: each [d, d], float64."""

    original: Tensor
    edited: Tensor
    cross: Tensor

    @classmethod
    def of_weights(
        cls, original: Mapping[str, Tensor], edited: Mapping[str, Tensor], progress: Progress | None = None
    ) -> WeightMoments:
        """One pass over both sets of key and value weights, which must have the same names.

        Raises:
            InputError: the two have different weights, or one is damaged.
        """
        if not original or list(original) != list(edited):
            raise InputError("The original and the edited model have different weights: take two states of one model.")
        steps = Steps(progress, len(original))
        sums: tuple[GramSum, GramSum] | None = None
        for name in original:
            before, after = original[name], edited[name]
            if sums is None:
                dimension, device = before.shape[-1], float64_device(before.device)
                sums = GramSum(dimension, device, exact=True), GramSum(dimension, device, exact=True)
                cross = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
            for weight in (before, after):
                check_projection(name, weight, dimension)
            if before.shape != after.shape:
                raise InputError(
                    f"The weight {quoted(name)} is {list(before.shape)} in the original model and {list(after.shape)} in "
                    "the edited one: take two states of one model."
                )
            sums[0].add(before)
            sums[1].add(after)
            cross.addmm_(to_float64(before, device).T, to_float64(after, device))
            steps.done("reading weights")
        assert sums is not None  # there is at least one weight
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
    left, right = transform.factors()
    if right is None:
        return cross, add_product(cross.clone(), left, cross)
    return cross, add_product(cross.clone(), right, left.T @ cross)


@dataclass(frozen=True, eq=False)
class Regenerated:
    """What a derivation found.

    Attributes:
        tokens: c' [n, d], in the dtype and on the device of the concept.
        regeneration: max(0, 1 − ‖W' c' − W c‖ / ‖W c* − W c‖) over all tokens and weights.
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
    derivation = DenseSystem(moments.cross, moments.edited.clone(), regularization)
    intended, harmless = (to_float64(tokens, moments.original.device) for tokens in (concept, target))
    derived = derivation.of_tokens(intended)
    energy = _energy(derived, moments.edited) - 2 * float((intended @ moments.cross * derived).sum())
    missed = max(energy + _energy(intended, moments.original), 0.0)
    apart = _energy(harmless - intended, moments.original)
    regeneration = max(0.0, 1 - (missed / apart) ** 0.5) if apart > 0 else 0.0
    return Regenerated(derived.to(concept.dtype).to(concept.device), regeneration, derivation.condition)


def _energy(rows: Tensor, gram: Tensor) -> float:
    return float(((rows @ gram) * rows).sum().clamp(min=0))
