"""Second moments: all that an edit or a derivation needs to know of the concepts.

With token pairs (c, c*) of weight η, an edit reads C = Σ η c cᵀ and X = Σ η c* cᵀ, and nothing else.
The derivation is linear, c' = K c, so an epoch only moves them: C' = K C Kᵀ, X' = X Kᵀ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pairs import ConceptPair
from .solves import GramSum, to_float64


@dataclass(frozen=True, eq=False)
class PairMoments:
    """C = UᵀMU and X = VᵀU of a set of token pairs, with U, V [r, d] and M [r, r], r ≤ d.

    Few tokens are kept as they are (rows of U and V, scaled by √η; M = I). More tokens than
    dimensions are folded into U = I, M = C, Vᵀ = X. A derivation then only replaces U by U·Kᵀ,
    so an epoch costs the same for a thousand concepts as for ten.

    Attributes:
        basis: U, or None for the identity.
        core: M, or None for the identity.
        cross: V.
    """

    basis: Tensor | None
    core: Tensor | None
    cross: Tensor

    def parts(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """What an edit needs, in new tensors: C [d, d], and X − C = Σ η (c* − c) cᵀ as factors.

        Returns:
            C, the rows V − MU [r, d], and U (None for the identity): X − C = (V − MU)ᵀ·U.
        """
        if self.basis is None:
            assert self.core is not None  # by construction one of the two is given
            return self.core.clone(), self.cross - self.core, None
        if self.core is None:
            gram = GramSum(self.basis.shape[1], self.basis.device)
            gram.add(self.basis)
            return gram.total(), self.cross - self.basis, self.basis
        weighted = self.core @ self.basis
        total = self.basis.T @ weighted
        return total, torch.sub(self.cross, weighted, out=weighted), self.basis

    def mapped(self, linear: Callable[[Tensor | None], Tensor]) -> PairMoments:
        """The moments of (K c, c*), where `linear` maps rows c (None: the rows of I) to rows K c."""
        return PairMoments(linear(self.basis), self.core, self.cross)

    def joined(self, other: PairMoments) -> PairMoments:
        """The moments of the pairs of both."""
        if self.basis is not None and other.basis is not None and self.core is None and other.core is None:
            rows = self.basis.shape[0] + other.basis.shape[0]
            if rows <= self.basis.shape[1]:
                return PairMoments(torch.cat([self.basis, other.basis]), None, torch.cat([self.cross, other.cross]))
        ours, theirs = self._sums(), other._sums()
        return PairMoments(None, ours[0] + theirs[0], ours[1] + theirs[1])

    def _sums(self) -> tuple[Tensor, Tensor]:
        """C and Xᵀ = UᵀV [d, d], of which neither may be written to."""
        if self.basis is None:
            assert self.core is not None  # by construction one of the two is given
            return self.core, self.cross
        weighted = self.basis if self.core is None else self.core @ self.basis
        return self.basis.T @ weighted, self.basis.T @ self.cross


def pair_moments(
    pairs: Sequence[ConceptPair], erase_scale: float, device: torch.device
) -> tuple[PairMoments, PairMoments]:
    """Moments of the first edit (subject tokens) and of every epoch (all tokens), float64 on `device`."""
    rows = sum(pair.all_tokens()[0].shape[0] for pair in pairs)
    if rows <= pairs[0].dimension:
        return (
            _token_moments([(pair.subject_tokens(), pair.scale) for pair in pairs], erase_scale, device),
            _token_moments([(pair.all_tokens(), pair.scale) for pair in pairs], erase_scale, device),
        )
    return _folded_moments(pairs, erase_scale, device)


def second_moment(prompts: Iterable[Tensor], dimension: int, device: torch.device) -> Tensor:
    """Σ p pᵀ over all tokens p of all `prompts` (each [n, d]): [d, d], float64 on `device`."""
    return _weighted_moment(((tokens, 1.0) for tokens in prompts), dimension, device)


def _token_moments(
    weighted: Sequence[tuple[tuple[Tensor, Tensor], float]], erase_scale: float, device: torch.device
) -> PairMoments:
    concepts, targets = [], []
    for (concept, target), scale in weighted:
        root = (erase_scale * scale) ** 0.5
        concepts.append(to_float64(concept, device) * root)
        targets.append(to_float64(target, device) * root)
    return PairMoments(basis=torch.cat(concepts), core=None, cross=torch.cat(targets))


def _folded_moments(
    pairs: Sequence[ConceptPair], erase_scale: float, device: torch.device
) -> tuple[PairMoments, PairMoments]:
    dimension = pairs[0].dimension
    subject = _weighted_moment(
        ((pair.subject_tokens()[0], erase_scale * pair.scale) for pair in pairs), dimension, device
    )
    # All tokens = subject tokens + the few before and after them, so that no token is read twice.
    rest = _weighted_moment(
        ((tokens, erase_scale * pair.scale) for pair in pairs for tokens in _outside_subject(pair)),
        dimension,
        device,
    )
    subject_cross = _cross_moment([(*pair.subject_tokens(), pair.scale) for pair in pairs], erase_scale, device)
    all_cross = _cross_moment([(*pair.all_tokens(), pair.scale) for pair in pairs], erase_scale, device)
    return (
        PairMoments(basis=None, core=subject, cross=subject_cross),
        PairMoments(basis=None, core=rest.add_(subject), cross=all_cross),
    )


def _outside_subject(pair: ConceptPair) -> list[Tensor]:
    """The tokens that an epoch pairs but the first edit does not (before and after the subject)."""
    every = pair.all_tokens()[0]
    start, stop = pair.concept_start, pair.concept_start + pair.subject_tokens()[0].shape[0]
    return [every[:start], every[stop:]]


def _weighted_moment(weighted: Iterable[tuple[Tensor, float]], dimension: int, device: torch.device) -> Tensor:
    """Σ w·xᵀx over (x [n, d], w), in float64."""
    gram = GramSum(dimension, device)
    for tokens, weight in weighted:
        gram.add(tokens, weight)
    return gram.total()


def _cross_moment(rows: Sequence[tuple[Tensor, Tensor, float]], erase_scale: float, device: torch.device) -> Tensor:
    """V = Xᵀ = Σ η c c*ᵀ [d, d] over (concept rows, target rows, scale).

    Concepts with the same target tokens are summed first: a thousand concepts mapped to the empty
    prompt cost one product.
    """
    dimension = rows[0][0].shape[1]
    total = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
    groups: dict[tuple[object, ...], list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
    for row in rows:
        target = row[1]
        groups[(target.data_ptr(), target.dtype, *target.shape, *target.stride())].append(row)
    for group in groups.values():
        target = group[0][1]
        concept_sum = torch.zeros(target.shape, dtype=torch.float64, device=device)
        for concept, _, scale in group:
            concept_sum.add_(concept.to(device), alpha=erase_scale * scale)
        total.addmm_(concept_sum.T, to_float64(target, device))
    return total
