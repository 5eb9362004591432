"""Second moments: all that an edit or a derivation needs to know of the concepts.

With token pairs (c, c*) of weight η, an edit reads C = Σ η c cᵀ and X = Σ η c* cᵀ, and nothing else.
The derivation is linear, c' = K c, so an epoch only moves them: C' = K C Kᵀ, X' = X Kᵀ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..pairs import ConceptPair
from .equal_tokens import EqualTokens, equal_tokens
from .gram_sum import GramSum
from .solves import is_above, to_float64

# How far sums in float32 may change second moments, as a share of what they are in any direction.
_MOMENT_ERROR = 1e-5


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

    @property
    def tokens(self) -> Tensor | None:
        """U [r, d] where it holds the tokens themselves (M = I), else None."""
        return self.basis if self.core is None else None

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


@dataclass(frozen=True, eq=False)
class PreservedMoment:
    """P = Σ p pᵀ of the tokens of preserved prompts.

    Attributes:
        rows: where they are few, the different tokens [n, d], each times the root of how often it occurs: P = rowsᵀ·rows.
        total: P [d, d] where there are more different tokens than dimensions.
    """

    rows: Tensor | None
    total: Tensor | None

    @classmethod
    def of_prompts(cls, prompts: Sequence[Tensor], dimension: int, device: torch.device) -> PreservedMoment:
        """Of token embeddings, [n, d] each; in float64 on `device`."""
        if not prompts:
            return cls(torch.zeros(0, dimension, dtype=torch.float64, device=device), None)
        equal = equal_tokens(prompts)
        if equal.count > dimension:
            return cls(None, second_moment(prompts, dimension, device))
        weighted = [(tokens, tokens, 1.0) for tokens in prompts]
        return cls(_token_moments(weighted, equal, device).basis, None)

    def matrix(self) -> Tensor:
        """P [d, d], which must not be written to."""
        if self.total is not None:
            return self.total
        assert self.rows is not None  # by construction one of the two is given
        return self.rows.T @ self.rows


class TokenSum:
    """Σ p pᵀ of the tokens of prompts that are gathered one after the other, of which none is kept.

    Args:
        dimension: d.
        device: where the sum is; it must have float64.

    Attributes:
        count: how many tokens there are.
    """

    def __init__(self, dimension: int, device: torch.device) -> None:
        self._gram = GramSum(dimension, device, exact=True)
        self.count = 0

    def add(self, tokens: Tensor) -> None:
        """One more prompt: [n, d]. Nothing can be added once the mean was asked for."""
        self._gram.add(tokens)
        self.count += len(tokens)

    @cached_property
    def mean(self) -> Tensor:
        """Σ p pᵀ / count [d, d], which must not be written to."""
        return self._gram.total() / self.count


def pair_moments(
    pairs: Sequence[ConceptPair], erase_scale: float, device: torch.device
) -> tuple[PairMoments, PairMoments]:
    """Moments of the first edit (subject tokens) and of every epoch (all tokens), float64 on `device`."""
    equal = equal_tokens([pair.all_tokens()[0] for pair in pairs])
    if equal.count > pairs[0].dimension:
        return _folded_moments(pairs, erase_scale, device)
    subject = [(*pair.subject_tokens(), erase_scale * pair.scale) for pair in pairs]
    every = [(*pair.all_tokens(), erase_scale * pair.scale) for pair in pairs]
    return (
        _token_moments(subject, equal_tokens([concept for concept, _, _ in subject]), device),
        _token_moments(every, equal, device),
    )


def second_moment(prompts: Iterable[Tensor], dimension: int, device: torch.device) -> Tensor:
    """Σ p pᵀ over all tokens p of all `prompts` (each [n, d]): [d, d], float64 on `device`."""
    gram = GramSum(dimension, device, exact=True)
    for tokens in prompts:
        gram.add(tokens)
    return gram.total()


def _token_moments(
    weighted: Sequence[tuple[Tensor, Tensor, float]], equal: EqualTokens, device: torch.device
) -> PairMoments:
    """Of concept tokens, target tokens and η; equal concept tokens become one row.

    With w = Σ η over equal tokens c, their parts of C and X are w c cᵀ and (Σ η c*) cᵀ: one row √w c with Σ η c* / √w.
    """
    dimension = weighted[0][0].shape[1]
    basis, cross = (torch.zeros(equal.count, dimension, dtype=torch.float64, device=device) for _ in range(2))
    weight = torch.zeros(equal.count, 1, dtype=torch.float64, device=device)
    for (concept, target, scale), numbers in zip(weighted, equal.group, strict=True):
        group = numbers.to(device)
        basis[group] = to_float64(concept, device)
        cross.index_add_(0, group, to_float64(target, device), alpha=scale)
        weight.index_add_(0, group, torch.full_like(weight[group], scale))
    # Weights so small that they are zero in float64 leave zeros.
    root = weight.sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    return PairMoments(basis=basis.mul_(root), core=None, cross=cross.div_(root))


def _folded_moments(
    pairs: Sequence[ConceptPair], erase_scale: float, device: torch.device
) -> tuple[PairMoments, PairMoments]:
    # All tokens = subject tokens + the few before and after them, so that no token is read twice.
    subject = [(pair.subject_tokens()[0], erase_scale * pair.scale) for pair in pairs]
    rest = [(tokens, erase_scale * pair.scale) for pair in pairs for tokens in _outside_subject(pair)]
    first, every = _concept_moments(subject, rest, device)
    subject_cross = _cross_moment([(*pair.subject_tokens(), pair.scale) for pair in pairs], erase_scale, device)
    all_cross = _cross_moment([(*pair.all_tokens(), pair.scale) for pair in pairs], erase_scale, device)
    return (
        PairMoments(basis=None, core=first, cross=subject_cross),
        PairMoments(basis=None, core=every, cross=all_cross),
    )


def _outside_subject(pair: ConceptPair) -> list[Tensor]:
    """The tokens that an epoch pairs but the first edit does not (before and after the subject)."""
    every = pair.all_tokens()[0]
    start, stop = pair.concept_start, pair.concept_start + pair.subject_tokens()[0].shape[0]
    return [tokens for tokens in (every[:start], every[stop:]) if len(tokens)]


def _concept_moments(
    subject: Sequence[tuple[Tensor, float]], rest: Sequence[tuple[Tensor, float]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Σ w·xᵀx over (x [n, d], w) of `subject`, and of `subject` and `rest` together: [d, d], float64.

    In float32 blocks where that changes the sums by no more than a hundred-thousandth of what they are in any direction,
    and so every edit that is made of them by no more than that; else in float64.
    """
    for exact in (False, True):
        sums = [_weighted_moment(weighted, device, exact) for weighted in (subject, rest) if weighted]
        (first, error), *others = sums
        every = first + others[0][0] if others else first.clone()
        if exact or is_above(first, (error + sum(other[1] for other in others)) / _MOMENT_ERROR):
            break
    return first, every


def _weighted_moment(
    weighted: Sequence[tuple[Tensor, float]], device: torch.device, exact: bool
) -> tuple[Tensor, float]:
    """Σ w·xᵀx over (x [n, d], w), equal tokens once, and about how far it is from the exact sum."""
    equal = equal_tokens([tokens for tokens, _ in weighted])
    weight = torch.zeros(equal.count, dtype=torch.float64)
    for (tokens, scale), group in zip(weighted, equal.group, strict=True):
        weight.index_add_(0, group, torch.full((len(tokens),), scale, dtype=torch.float64))
    occurs = torch.bincount(torch.cat(equal.group))
    alone = [occurs[group] == 1 for group in equal.group]
    gram = GramSum(weighted[0][0].shape[1], device, exact)
    for (tokens, scale), own in zip(weighted, alone, strict=True):
        gram.add(tokens if bool(own.all()) else tokens[own.to(tokens.device)], scale)
    # Apart, since weights in float64 make float64 of the tokens.
    for (tokens, _), own, first, group in zip(weighted, alone, equal.first(), equal.group, strict=True):
        chosen = first & ~own
        if bool(chosen.any()):
            shared = to_float64(tokens[chosen.to(tokens.device)], device)
            gram.add(shared * weight[group[chosen], None].sqrt().to(device))
    return gram.total(), gram.error


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
