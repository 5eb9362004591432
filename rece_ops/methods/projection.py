"""Erasure by projection: a T that is singular where the concept is, so that no embedding brings it back.

With the main directions Δ [d, k] of what is to go (see `project`), orthonormal in the metric G (ΔᵀGΔ = I), and the second moment
Σ_N [d, d] of the tokens that should stay:

    A = Σ_N + β·(tr Σ_N / tr G⁻¹)·G⁻¹        R = A⁻¹Δ        T = I − Δ(RᵀΔ)⁻¹Rᵀ

A concept with a target does not only lose what sets it apart; it gets what sets the target apart instead. With
M = (RᵀΔ)⁻¹Rᵀ, which reads the component along Δ, and T₀ the T above,

    T = T₀(I + τM)        τ = argmin Σ ‖(c* − o) − τ M(c − o)‖²_G

over all tokens of concepts c, targets c* and other words o in the same place; without targets τ = 0.

What that guarantees:

1. RᵀT₀ = Rᵀ − RᵀΔ(RᵀΔ)⁻¹Rᵀ = 0, so RᵀT = 0: no embedding whatever gives an output with a component along R.
2. T₀Δ = Δ − Δ = 0: embeddings that differ only along Δ become the same. A concept whose difference from the other
   words lies in the span of Δ comes out as they do, T₀c = T₀o, or with a target where τ takes it.
3. For every x, ‖T x − c‖_G ≥ min {‖y − c‖_G : Rᵀy = 0} = ‖P Lᵀc‖, with G = LLᵀ and P the orthogonal projector onto the
   span of L⁻¹R: whatever is fed to the erased weights, their outputs stay that far from the concept's.
4. Of all T₀ = I − ΔM with T₀Δ = 0, this one has the smallest tr(M A Mᵀ) = tr(M Σ_N Mᵀ) + β'·tr(M G⁻¹ Mᵀ): the first
   term is the mean of ‖(T − I) x‖²_G over the tokens of Σ_N, the price that they pay; the second is ‖Lᵀ(T − I)L⁻ᵀ‖²,
   how much T − I can change an output at most. (Lagrange: M A = Λ Δᵀ with M Δ = I gives M = (ΔᵀA⁻¹Δ)⁻¹ΔᵀA⁻¹.)

So β → 0 keeps Σ_N at any cost (LEACE's choice, arXiv:2306.03819), and β → ∞ gives T = I − ΔΔᵀG, orthogonal in the
model's own output metric, which no detour through another embedding can weaken.

In coordinates y = Lᵀx the metric is the identity: Δ = L⁻ᵀV with orthonormal V, and with B = LᵀAL, Z = B⁻¹V,
R = LZ and T₀ − I = −L⁻ᵀ V (VᵀZ)⁻¹ Zᵀ Lᵀ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..eraser import Eraser, result_dtype
from ..errors import InputError, NumericalError
from ..linear.directions import NEGLIGIBLE, Differences, metric_root
from ..linear.finite import balanced
from ..linear.gram import GRAM_EFFECT, GramTooRough, check_reads, with_gram
from ..linear.moments import TokenSum, second_moment
from ..linear.preserved_subspace import PreservedSubspace
from ..linear.solves import SPDSolver, add_to_diagonal, congruence, inverse_trace, mirror_upper, to_float64
from ..pairs import ConceptPair, Contrast, check_same_dimension, intended_outputs
from ..progress import Progress, Steps
from ..settings import check_coefficient
from ..texts import quoted

MAX_DIRECTIONS = 256
# Directions in which the concepts differ less than this part of the most tell nothing about their targets.
_DIRECTION_SEEN = 1e-10


@dataclass(frozen=True)
class ProjectionSettings:
    """Settings of an erasure by projection.

    Attributes:
        robustness: β, from keeping what should stay (0.01) to robust against any embedding (100).
        directions: how many directions are erased; None takes as many as `energy` asks for.
        energy: share of the differences between concepts and targets (in the metric G) that the directions hold.
        target_scale: weight of the target tokens in Σ_N, where all preserved tokens and all calibration tokens have 1 each.
        regularization: λ_r of the derivation, for the measures only.

    Raises:
        InputError: a value is no number, not finite, or out of range.
    """

    robustness: float = 30.0
    directions: int | None = None
    energy: float = 0.9
    target_scale: float = 1.0
    regularization: float = 0.1

    def __post_init__(self) -> None:
        check_coefficient("robustness", self.robustness)
        check_coefficient("energy", self.energy)
        check_coefficient("target_scale", self.target_scale, zero_allowed=True)
        check_coefficient("regularization", self.regularization)
        if self.energy > 1:
            raise InputError(f"energy is {self.energy}: give a share above 0, at most 1.")
        if self.directions is not None and not (
            isinstance(self.directions, int) and 1 <= self.directions <= MAX_DIRECTIONS
        ):
            raise InputError(
                f"directions is {quoted(self.directions)}: give a whole number from 1 to {MAX_DIRECTIONS}."
            )

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, for provenance."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Projection:
    """A finished erasure by projection.

    Attributes:
        eraser: the context transform T, in the dtype and on the device of the concepts.
        directions: Δ [d, k], float64.
        readers: R [d, k], float64.
        spectrum: share of all differences that each possible direction holds, largest first.
        condition: condition number κ₂ of LᵀAL.
        gram: G [d, d] of the original key and value weights, float64.
        settings: the settings it was made with.
        pairs: the concepts.
        contrasts: what the difference of `pairs` from was removed, by their names; none where that was their targets.
    """

    eraser: Eraser
    directions: Tensor
    readers: Tensor
    spectrum: Tensor
    condition: float
    gram: Tensor
    settings: ProjectionSettings
    pairs: tuple[ConceptPair, ...]
    contrasts: tuple[Contrast, ...] = ()

    @property
    def intended(self) -> tuple[ConceptPair, ...]:
        """Each concept, paired with what it should have become."""
        return intended_outputs(self.pairs, self.contrasts)

    @property
    def conditions(self) -> dict[str, float]:
        """The condition number κ₂ of every solve, by a name that says which."""
        return {"projection": self.condition}

    def erasers(self) -> tuple[Eraser, ...]:
        """The one eraser that there is."""
        return (self.eraser,)

    def distance_bound(self, tokens: Tensor) -> Tensor:
        """For each token c [n, d]: the least ‖y − c‖_G of all y with Rᵀy = 0, which no T x comes below (3.)."""
        metric = metric_root(self.gram)
        basis = torch.linalg.qr(torch.linalg.solve_triangular(metric, self.readers, upper=False)).Q
        rows = to_float64(tokens, self.gram.device)
        distances: Tensor = torch.linalg.vector_norm((rows @ metric) @ basis, dim=1)
        return distances


def project(
    weights: Mapping[str, Tensor],
    pairs: Sequence[ConceptPair],
    preserve: Sequence[Tensor] = (),
    settings: ProjectionSettings = ProjectionSettings(),
    *,
    contrasts: Sequence[Contrast] = (),
    neutral: Sequence[Tensor] = (),
    preserve_exactly: Mapping[str, Tensor] = MappingProxyType({}),
    progress: Progress | None = None,
) -> Projection:
    """Erase concepts from all key and value weights at once by one oblique projection (see the module's head).

    Δ are the main directions of the differences within `contrasts`. What sets a concept apart shows best in comparison with
    other words in the same place: its difference from the empty prompt also holds what sets any word apart from none.

    Args:
        weights: the key and value weights by name; read one at a time, so the mapping may be lazy.
        pairs: what to erase, and towards what; at least one.
        preserve: token embeddings [n, d] of the prompts whose outputs should stay.
        settings: coefficients.
        contrasts: concepts with what they are compared with, such as other words in the same sentence, and what they
            should become instead; none means `pairs`. Each counts by its scale.
        neutral: the same of calibration prompts; all of them together count as much as all of `preserve`.
        preserve_exactly: token embeddings [n, d] by prompt that T may not move (see `exact`).
        progress: called as progress(done, total, stage) after every step; may raise to cancel.

    Raises:
        InputError: an input is missing, has a wrong shape or is not finite, concept and target are the same, or a
            direction to erase lies in the span of what is preserved exactly.
        NumericalError: Σ_N or G is too ill-conditioned for the robustness.
    """
    dimension = check_same_dimension([*pairs, *contrasts], [*preserve, *neutral, *preserve_exactly.values()])
    steps = Steps(progress, len(weights) + 3)

    def projected(gram: Tensor, error: float) -> Projection:
        check_reads(gram, dimension)
        differences = Differences(gram, [pair.name for pair in pairs] if contrasts else (), error)
        for contrast in contrasts or [Contrast.of(pair) for pair in pairs]:
            differences.add(contrast)
        return project_differences(
            differences, pairs, preserve, settings, neutral=neutral, preserve_exactly=preserve_exactly, done=steps.done
        )

    return with_gram(weights, steps, projected)


def project_differences(
    differences: Differences,
    pairs: Sequence[ConceptPair],
    preserve: Sequence[Tensor],
    settings: ProjectionSettings,
    *,
    neutral: Sequence[Tensor] = (),
    without: TokenSum | None = None,
    preserve_exactly: Mapping[str, Tensor] = MappingProxyType({}),
    done: Callable[[str], None] = lambda stage: None,
) -> Projection:
    """`project` after it has read the weights, checked its inputs and gathered what sets the concepts apart.

    What pairs of prompts have without the concept (`without`) should stay too, and counts as much as all of `neutral`.
    `done` is called with the name of each of three stages.

    Raises:
        GramTooRough: G is not known well enough for this projection.
    """
    gram = differences.gram
    staying = _staying(pairs, (preserve, neutral), without, gram, settings.target_scale)
    done("gathering what should stay")

    def solved(root: Tensor) -> _Solution:
        return _solve(root, differences, staying, preserve_exactly, settings)

    root = metric_root(gram)
    found = solved(root)
    done("projection")
    if differences.gram_error:
        _check_precision(found, differences, root, solved)
    done("checking its precision")
    concept = pairs[0].concept
    return Projection(
        eraser=Eraser(found.left, found.right).to(concept.device, result_dtype(concept)),
        directions=found.directions,
        readers=found.readers,
        spectrum=found.spectrum,
        condition=found.condition,
        gram=gram,
        settings=settings,
        pairs=tuple(pairs),
        contrasts=tuple(differences.kept.values()),
    )


@dataclass(frozen=True, eq=False)
class _Solution:
    """T − I = left [d, k] @ right [k, d], and the rest as `Projection` has it."""

    left: Tensor
    right: Tensor
    directions: Tensor
    readers: Tensor
    spectrum: Tensor
    condition: float


def _solve(
    root: Tensor,
    differences: Differences,
    staying: Tensor,
    exactly: Mapping[str, Tensor],
    settings: ProjectionSettings,
) -> _Solution:
    """The projection in the metric of which `root` is L, Σ_N being `staying`."""
    vectors, spectrum = _chosen(*differences.main_directions(root), settings)
    readers, condition = _readers(staying, exactly, root, vectors, settings)
    readers_of_tokens = root @ readers
    inner = vectors.T @ readers
    moved = _replacements(differences, root, vectors, readers @ torch.linalg.inv(inner)) - vectors
    left = torch.linalg.solve(inner, torch.linalg.solve_triangular(root.T, moved, upper=True), left=False)
    directions = torch.linalg.solve_triangular(root.T, vectors, upper=True)
    factors = balanced(left, readers_of_tokens.T.contiguous())
    return _Solution(*factors, directions, readers_of_tokens, spectrum, condition)


def _check_precision(
    found: _Solution, differences: Differences, root: Tensor, solve: Callable[[Tensor], _Solution]
) -> None:
    """Raise GramTooRough if the error of G could take the changes of the weights too far.

    The projection is made again, with G moved by a random symmetric matrix that is as large as the error is in the spectral norm
    (which is estimated from above): ‖W·T − W‖² over all weights, ‖Lᵀ(T − I)‖², tells how far that takes it.
    """
    try:
        moved = solve(metric_root(_moved(differences.gram, differences.gram_error)))
    except (InputError, NumericalError):
        raise GramTooRough from None
    apart = root.T @ torch.cat([moved.left, -found.left], dim=1), torch.cat([moved.right, found.right])
    if not _size(*apart) <= GRAM_EFFECT * _size(root.T @ found.left, found.right):
        raise GramTooRough


def _moved(gram: Tensor, error: float) -> Tensor:
    """G with a random symmetric matrix of that spectral norm added to it: the same every time."""
    noise = torch.randn(gram.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # The spectral norm is 2·√d times the deviation of an entry.
    return mirror_upper(noise.to(gram.device)).mul_(error / (2 * math.sqrt(len(gram)))).add_(gram)


def _size(left: Tensor, right: Tensor) -> float:
    """‖left @ right‖_F of factors [d, k] and [k, d]."""
    return math.sqrt(max(float(((left.T @ left) * (right @ right.T)).sum()), 0.0))


def _chosen(vectors: Tensor, energy: Tensor, settings: ProjectionSettings) -> tuple[Tensor, Tensor]:
    """The first k of `vectors` [d, m]: as many as the settings say, or their energy asks for; and all the energies."""
    rank = int((energy > energy[0] * NEGLIGIBLE).sum())
    count = settings.directions or int((energy.cumsum(0) < settings.energy - NEGLIGIBLE).sum()) + 1
    if settings.directions is not None and count > rank:
        raise InputError(
            f"directions is {count}, but the concepts differ from what they are compared with in {rank} directions only: "
            f"give at most {rank}."
        )
    return vectors[:, : min(count, rank, MAX_DIRECTIONS)].contiguous(), energy


def _replacements(differences: Differences, root: Tensor, vectors: Tensor, mixed: Tensor) -> Tensor:
    """T₀τ [d, k] in the metric's coordinates (see the module's head); zero where no contrast has a target.

    Args:
        differences: what τ is fitted to.
        root: L.
        vectors: V [d, k].
        mixed: Z(VᵀZ)⁻¹ [d, k], which reads the coordinates along V: M = mixedᵀLᵀ.
    """
    moment, cross = differences.coordinates(root, mixed)
    if cross is None:
        return torch.zeros_like(vectors)
    fitted = torch.linalg.pinv(moment, hermitian=True, rtol=_DIRECTION_SEEN) @ cross
    replaced: Tensor = (fitted - fitted @ mixed @ vectors.T).T
    return replaced


def _readers(
    staying: Tensor, exactly: Mapping[str, Tensor], root: Tensor, vectors: Tensor, settings: ProjectionSettings
) -> tuple[Tensor, float]:
    """Z = B⁻¹V with B = Lᵀ Σ_N L + β' I, and κ₂(B); with exact preservation B⁻¹ is that of the subspace that is left."""
    weight = settings.robustness * float(staying.diagonal().sum()) / inverse_trace(root)
    solver = SPDSolver(
        add_to_diagonal(congruence(staying, root), weight),
        "The projection",
        "Raise 'robustness'.",
    )
    readers = solver.solve_rows(vectors.T).T
    if exactly:
        span = PreservedSubspace(exactly, root.device, root)
        for vector in vectors.T:
            span.check_outside("A direction to erase", vector[None])
        kept = span.basis
        solved = solver.solve_rows(kept.T).T
        readers = readers - solved @ torch.linalg.solve(kept.T @ solved, kept.T @ readers)
    return readers, solver.condition


def _staying(
    pairs: Sequence[ConceptPair],
    staying: Sequence[Sequence[Tensor]],
    without: TokenSum | None,
    gram: Tensor,
    target_scale: float,
) -> Tensor:
    """Σ_N [d, d]: the mean second moments of each group of prompts that should stay, and of the targets."""
    targets = [pair.subject_tokens()[1] for pair in pairs]
    total = torch.zeros_like(gram)
    for prompts, scale in (*((group, 1.0) for group in staying), (targets, target_scale)):
        count = sum(tokens.shape[0] for tokens in prompts)
        if count and scale:
            total.add_(second_moment(prompts, len(gram), gram.device), alpha=scale / count)
    if not bool(total.any()):
        raise InputError("Nothing is to stay: preserve at least one prompt, or give target_scale a value above zero.")
    return total if without is None else total.add_(without.mean)
