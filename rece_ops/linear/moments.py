"""Second moments: all that an edit or a derivation needs to know of the concepts.

With token pairs (c, c*) of weight η, an edit reads C = Σ η c cᵀ and X = Σ η c* cᵀ, and nothing else.
The derivation is linear, c' = K c, so an epoch only moves them: C' = K C Kᵀ, X' = X Kᵀ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..pairs import ConceptPair
from .equal_tokens import EqualTokens, Parts, equal_tokens
from .gram_sum import GramSum
from .solves import congruence, is_above, to_float64

# How far sums in float32 may change second moments, as a share of what they are in any direction.
_MOMENT_ERROR = 1e-5


@dataclass(frozen=True, eq=False)
class PairMoments:
    """C and X = HᵀF of a set of token pairs, with F, H [r, d].

    Few tokens are kept as they are: rows of F are √η c, those of H √η c*, and C = FᵀF. More tokens than dimensions are folded
    into C, and F are sums of concepts' tokens, one for each token of a target: as many for a thousand concepts that are mapped
    to the empty prompt as for one. A derivation then only moves C and F, so an epoch costs the same for a thousand concepts as
    for ten.

    Attributes:
        concepts: F.
        targets: H, or None for the identity.
        total: C, or None for FᵀF.
    """

    concepts: Tensor
    targets: Tensor | None
    total: Tensor | None

    @property
    def tokens(self) -> Tensor | None:
        """F where it holds the tokens themselves, else None."""
        return self.concepts if self.total is None else None

    def second_moment(self) -> Tensor:
        """C [d, d], in a new tensor."""
        if self.total is not None:
            return self.total.clone()
        gram = GramSum(self.concepts.shape[1], self.concepts.device)
        gram.add(self.concepts)
        return gram.total()

    def displacement(self) -> Tensor:
        """X − C = Σ η (c* − c) cᵀ [d, d], in a new tensor."""
        if self.total is None:
            assert self.targets is not None  # by construction one of the two is given
            return (self.targets - self.concepts).T @ self.concepts
        if self.targets is None:
            return self.concepts - self.total
        return torch.addmm(self.total, self.targets.T, self.concepts, beta=-1)

    def mapped(self, linear: Tensor) -> PairMoments:
        """The moments of (K c, c*).

        Args:
            linear: K c for every row c of `tokens` where they are kept, else for every row of the identity.
        """
        if self.total is None:
            return PairMoments(linear, self.targets, None)
        return PairMoments(self.concepts @ linear, self.targets, congruence(self.total, linear))

    def joined(self, other: PairMoments) -> PairMoments:
        """The moments of the pairs of both."""
        rows, dimension = len(self.concepts) + len(other.concepts), self.concepts.shape[1]
        kept = self.total is None and other.total is None and rows <= dimension
        total = None if kept else self.second_moment().add_(other.second_moment())
        if self.targets is None or other.targets is None or rows > dimension:
            return PairMoments(self._cross() + other._cross(), None, total)
        return PairMoments(torch.cat([self.concepts, other.concepts]), torch.cat([self.targets, other.targets]), total)

    def _cross(self) -> Tensor:
        """X [d, d], which must not be written to."""
        return self.concepts if self.targets is None else self.targets.T @ self.concepts


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
        return cls(_token_moments(weighted, equal, device).concepts, None)

    def add_to(self, matrix: Tensor, scale: float) -> Tensor:
        """Add scale·P to `matrix` [d, d], in place, and return it."""
        if self.total is not None:
            return matrix.add_(self.total, alpha=scale)
        assert self.rows is not None  # by construction one of the two is given
        return matrix.addmm_(self.rows.T, self.rows, alpha=scale)


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
    equal = equal_tokens([pair.concept for pair in pairs])
    every = equal.within([(number, slice(0, len(pair.all_tokens()[0]))) for number, pair in enumerate(pairs)])
    if every.count > pairs[0].dimension:
        return _folded_moments(pairs, equal, erase_scale, device)
    subject = equal.within([(number, _subject(pair)) for number, pair in enumerate(pairs)])
    return (
        _token_moments([(*pair.subject_tokens(), erase_scale * pair.scale) for pair in pairs], subject, device),
        _token_moments([(*pair.all_tokens(), erase_scale * pair.scale) for pair in pairs], every, device),
    )


def _subject(pair: ConceptPair) -> slice:
    """Which of the concept's tokens the first edit pairs."""
    return slice(pair.concept_start, pair.concept_start + len(pair.subject_tokens()[0]))


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
    concepts, targets = (torch.zeros(equal.count, dimension, dtype=torch.float64, device=device) for _ in range(2))
    weight = torch.zeros(equal.count, 1, dtype=torch.float64, device=device)
    for (concept, target, scale), numbers in zip(weighted, equal.group, strict=True):
        group = numbers.to(device)
        concepts[group] = to_float64(concept, device)
        targets.index_add_(0, group, to_float64(target, device), alpha=scale)
        weight.index_add_(0, group, torch.full_like(weight[group], scale))
    # Weights so small that they are zero in float64 leave zeros.
    root = weight.sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    return PairMoments(concepts.mul_(root), targets.div_(root), None)


def _folded_moments(
    pairs: Sequence[ConceptPair], equal: EqualTokens, erase_scale: float, device: torch.device
) -> tuple[PairMoments, PairMoments]:
    # All tokens = subject tokens + the few before and after them, so that no token is read twice.
    subject = [(number, _subject(pair)) for number, pair in enumerate(pairs)]
    rest = [(number, tokens) for number, pair in enumerate(pairs) for tokens in _outside_subject(pair)]
    scales = [erase_scale * pair.scale for pair in pairs]
    first, every = _concept_moments([pair.concept for pair in pairs], scales, (subject, rest), equal, device)
    subject_cross = _cross_moment([(*pair.subject_tokens(), pair.scale) for pair in pairs], erase_scale, device)
    all_cross = _cross_moment([(*pair.all_tokens(), pair.scale) for pair in pairs], erase_scale, device)
    return PairMoments(*subject_cross, first), PairMoments(*all_cross, every)


def _outside_subject(pair: ConceptPair) -> list[slice]:
    """The tokens that an epoch pairs but the first edit does not (before and after the subject)."""
    subject, count = _subject(pair), len(pair.all_tokens()[0])
    parts = (slice(0, min(subject.start, count)), slice(subject.stop, count))
    return [part for part in parts if part.start < part.stop]


def _concept_moments(
    prompts: Sequence[Tensor],
    scales: Sequence[float],
    parts: tuple[Parts, Parts],
    equal: EqualTokens,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Σ w·xᵀx over the first of `parts`, and over both together, w being the scale of a prompt: [d, d], float64.

    In float32 blocks where that changes the sums by no more than a hundred-thousandth of what they are in any direction,
    and so every edit that is made of them by no more than that; else in float64.
    """
    for exact in (False, True):
        sums = [_weighted_moment(prompts, scales, part, equal, device, exact) for part in parts if part]
        (first, error), *others = sums
        every = first + others[0][0] if others else first.clone()
        if exact or is_above(first, (error + sum(other[1] for other in others)) / _MOMENT_ERROR):
            break
    return first, every


def _weighted_moment(
    prompts: Sequence[Tensor],
    scales: Sequence[float],
    parts: Parts,
    all_equal: EqualTokens,
    device: torch.device,
    exact: bool,
) -> tuple[Tensor, float]:
    """Σ w·xᵀx over some tokens x of prompts with scales w, equal ones once, and about how far it is from the exact sum."""
    equal = all_equal.within(parts)
    weighted = [(prompts[number][tokens], scales[number]) for number, tokens in parts]
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


def _cross_moment(
    rows: Sequence[tuple[Tensor, Tensor, float]], erase_scale: float, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """F and H (None for the identity) of X = HᵀF = Σ η c* cᵀ over (concept rows, target rows, scale).

    Concepts with the same target tokens are summed: those of a thousand that are mapped to the empty prompt are as many as
    those of one.
    """
    dimension = rows[0][0].shape[1]
    groups: dict[tuple[object, ...], list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
    for row in rows:
        # The target's first tokens, of which a longer concept takes fewer.
        target = row[1]
        groups[(target.data_ptr(), target.dtype, target.device, *target.stride())].append(row)
    sums = (_target_and_sum(group, erase_scale, device) for group in groups.values())
    # With as many rows, X itself is as quick to move.
    if 2 * sum(max(len(target) for _, target, _ in group) for group in groups.values()) <= dimension:
        targets, concepts = zip(*sums, strict=True)
        return torch.cat(concepts), torch.cat(targets)
    total = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
    for target, concept in sums:
        total.addmm_(target.T, concept)
    return total, None


def _target_and_sum(
    group: Sequence[tuple[Tensor, Tensor, float]], erase_scale: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The target tokens that some concepts share, and Σ η c for each of them."""
    target = max((target for _, target, _ in group), key=len)
    total = torch.zeros(target.shape, dtype=torch.float64, device=device)
    for concept, _, scale in group:
        total[: len(concept)].add_(concept.to(device), alpha=erase_scale * scale)
    return to_float64(target, device), total
