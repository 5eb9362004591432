"""RECE (arXiv:2407.12383) as one context transform: the edit, the derivation, and their iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from ..attacks.derivation import Derivation
from ..eraser import Eraser, result_dtype
from ..errors import InputError
from ..linear.gram import check_reads, gram_matrix
from ..linear.moments import PairMoments, pair_moments, second_moment
from ..linear.preserved_subspace import PreservedSubspace
from ..linear.solves import SPDSolver, add_to_diagonal, to_float64
from ..pairs import ConceptPair, check_same_dimension
from ..progress import Progress, Steps
from ..settings import DEFAULT_SETTINGS, RECESettings
from ..texts import quoted


@dataclass(frozen=True, eq=False)
class Epoch:
    """What one derive-and-erase step found.

    Attributes:
        number: 1 for the first epoch.
        edit_condition: condition number κ₂ of λI + Σ μ p pᵀ + Σ η c' c'ᵀ.
        derivation_condition: condition number κ₂ of λ_r I + TᵀGT.
    """

    number: int
    edit_condition: float
    derivation_condition: float
    _gram: Tensor
    _before: Eraser
    _pairs: tuple[ConceptPair, ...]
    _regularization: float

    @cached_property
    def derived(self) -> tuple[Tensor, ...]:
        """The embedding [n, d] of each concept that regenerates it from the weights before this epoch.

        Computed when first asked for: the erasure itself needs only their second moments.
        """
        derivation = Derivation.of_eraser(self._gram, self._before, self._regularization)
        return tuple(derivation.embedding(pair.concept) for pair in self._pairs)


@dataclass(frozen=True, eq=False)
class Erasure:
    """A finished erasure.

    Attributes:
        eraser: the context transform T, in the dtype and on the device of the concepts.
        epochs: one record per derive-and-erase step.
        edit_condition: condition number κ₂ of λI + Σ μ p pᵀ + Σ η c cᵀ of the first edit.
        gram: G [d, d] of the original key and value weights, float64.
        settings: the settings it was made with.
        pairs: the concepts.
    """

    eraser: Eraser
    epochs: tuple[Epoch, ...]
    edit_condition: float
    gram: Tensor
    settings: RECESettings
    pairs: tuple[ConceptPair, ...]

    @property
    def intended(self) -> tuple[ConceptPair, ...]:
        """Each concept, paired with what it is mapped to."""
        return self.pairs

    @property
    def conditions(self) -> dict[str, float]:
        """The condition number κ₂ of every solve, by a name that says which."""
        found = {"first edit": self.edit_condition}
        for epoch in self.epochs:
            found[f"derivation of epoch {epoch.number}"] = epoch.derivation_condition
            found[f"edit of epoch {epoch.number}"] = epoch.edit_condition
        return found

    def erasers(self) -> tuple[Eraser, ...]:
        """The erasers after the first edit and after every epoch, all but the last as they were computed.

        `eraser_at` gives the same transforms with the least rank, which takes a decomposition of each.
        """
        return (*(epoch._before for epoch in self.epochs), self.eraser)

    def until(self, epoch: int) -> Erasure:
        """The same erasure as if it had stopped after that epoch (0: after the first edit).

        Raises:
            InputError: there was no such epoch.
        """
        settings = replace(self.settings, epochs=epoch)
        return replace(self, eraser=self.eraser_at(epoch), epochs=self.epochs[:epoch], settings=settings)

    def eraser_at(self, epoch: int) -> Eraser:
        """The eraser after the first edit (0) or after that epoch (1 …).

        Raises:
            InputError: there was no such epoch.
        """
        if not 0 <= epoch <= len(self.epochs):
            raise InputError(f"There is no epoch {epoch}: this erasure has 0 (the first edit) to {len(self.epochs)}.")
        if epoch == len(self.epochs):
            return self.eraser
        return _finished(self.epochs[epoch]._before, self.pairs[0].concept)


def edit(
    moments: PairMoments, preserved: Tensor, settings: RECESettings, exact: PreservedSubspace | None = None
) -> tuple[Eraser, float]:
    """One closed-form edit (UCE, Eq. 3 of the paper) as a context transform, and its condition number.

    S = (λI + Σ η c* cᵀ + Σ μ p pᵀ) B⁻¹ with B = λI + Σ η c cᵀ + Σ μ p pᵀ, hence
    S − I = (Σ η (c* − c) cᵀ) B⁻¹.

    Args:
        moments: the token pairs (c, c*) with their weights η.
        preserved: Σ p pᵀ [d, d], float64.
        settings: λ and μ are read from it.
        exact: what S may not move at all: then every c and p above is replaced by its part outside that span.
    """
    system, displaced, basis = moments.parts()
    system.add_(preserved, alpha=settings.preserve_scale)
    if exact is not None:
        system = exact.confine(system)
        basis = exact.outside(torch.eye(len(system)).to(system) if basis is None else basis)
    solver = SPDSolver(
        add_to_diagonal(system, settings.edit_regularization),
        "The edit",
        "Raise 'edit_regularization', or lower 'erase_scale' and 'preserve_scale'.",
    )
    # Every d×d matrix counts at SDXL's size: none outlives its use.
    del system
    if basis is not None and 2 * basis.shape[0] < basis.shape[1]:
        return Eraser(displaced.T, solver.solve_rows(basis)), solver.condition
    full = displaced.T if basis is None else displaced.T @ basis
    del displaced, basis
    return Eraser(solver.solve_rows(full, overwrite=True)), solver.condition


def erase(
    weights: Mapping[str, Tensor],
    pairs: Sequence[ConceptPair],
    preserve: Sequence[Tensor] = (),
    settings: RECESettings = DEFAULT_SETTINGS,
    *,
    epoch_preserve: Sequence[Tensor] | None = None,
    preserve_exactly: Mapping[str, Tensor] = MappingProxyType({}),
    progress: Progress | None = None,
) -> Erasure:
    """Erase concepts from all key and value weights at once: the first edit, then `settings.epochs` epochs of RECE.

    Every weight W [out, d] becomes W·T with one T [d, d] (see `Eraser`); the key and value weights are read
    once, for their Gram matrix, and are not changed. An epoch edits what the one before left, as published, or
    the original weights with all pairs known so far (`RECESettings.anchored`). All solves run in float64 on the device
    of the key and value weights, or on the CPU where that has no float64.

    Args:
        weights: the key and value weights by name; read one at a time, so the mapping may be lazy.
        pairs: what to erase, and towards what; at least one.
        preserve: token embeddings [n, d] of the prompts whose outputs should stay, for the first edit.
        settings: coefficients.
        epoch_preserve: the same for the epochs' edits; None means the same as `preserve`.
        preserve_exactly: token embeddings [n, d] by prompt that no edit may move (see `exact`).
        progress: called as progress(done, total, stage) after every step; may raise to cancel.

    Returns:
        The erasure; its eraser is in the dtype of the concepts (float32 at least) and on their device.

    Raises:
        InputError: an input is missing, has a wrong shape or is not finite, or a concept lies in the span of what is
            preserved exactly.
        NumericalError: a solve is too ill-conditioned; the message names the setting to change.
    """
    later_preserve = preserve if epoch_preserve is None else epoch_preserve
    dimension = check_same_dimension(pairs, [*preserve, *later_preserve, *preserve_exactly.values()])
    steps = Steps(progress, len(weights) + 2 + settings.epochs)
    gram = gram_matrix(weights, lambda done, total, stage: steps.done(stage))
    check_reads(gram, dimension)
    return iterate(gram, pairs, preserve, settings, later_preserve, preserve_exactly, steps.done)


def iterate(
    gram: Tensor,
    pairs: Sequence[ConceptPair],
    preserve: Sequence[Tensor],
    settings: RECESettings,
    epoch_preserve: Sequence[Tensor],
    preserve_exactly: Mapping[str, Tensor],
    done: Callable[[str], None] = lambda stage: None,
) -> Erasure:
    """The first edit and all epochs from G alone: `erase` after it has read the key and value weights and checked its inputs.

    `done` is called with the name of each stage.
    """
    exact = _exact_span(preserve_exactly, pairs, gram.device)
    first, every = pair_moments(pairs, settings.erase_scale, gram.device)
    preserved = second_moment(preserve, len(gram), gram.device)
    done("gathering concepts")
    eraser, edit_condition = edit(first, preserved, settings.of_first_edit(), exact)
    done("first edit")
    if epoch_preserve is not preserve:
        preserved = second_moment(epoch_preserve, len(gram), gram.device)

    # Only an anchored iteration needs the first edit's moments any longer.
    collected = first if settings.anchored else every
    del first
    epochs: list[Epoch] = []
    for number in range(1, settings.epochs + 1):
        derived, derivation_condition = _derive(gram, eraser, every, settings.regularization)
        if settings.anchored:
            derived = collected = collected.joined(derived)
        step, step_condition = edit(derived, preserved, settings, exact)
        before = _snapshot(eraser, pairs[0].concept)
        epochs.append(
            Epoch(number, step_condition, derivation_condition, gram, before, tuple(pairs), settings.regularization)
        )
        eraser = step if settings.anchored else eraser @ step
        done(f"epoch {number}")
    return Erasure(_finished(eraser, pairs[0].concept), tuple(epochs), edit_condition, gram, settings, tuple(pairs))


def _exact_span(
    preserve_exactly: Mapping[str, Tensor], pairs: Sequence[ConceptPair], device: torch.device
) -> PreservedSubspace | None:
    if not preserve_exactly:
        return None
    exact = PreservedSubspace(preserve_exactly, device)
    for pair in pairs:
        exact.check_outside(f"Concept {quoted(pair.name)}", to_float64(pair.subject_tokens()[0], device))
    return exact


def _snapshot(eraser: Eraser, concept: Tensor) -> Eraser:
    """What an epoch keeps of the eraser before it: dense ones in the result's dtype, for their size."""
    return eraser.to(dtype=result_dtype(concept)) if eraser.is_dense else eraser


def _derive(gram: Tensor, eraser: Eraser, concepts: PairMoments, regularization: float) -> tuple[PairMoments, float]:
    derivation = Derivation.of_eraser(gram, eraser, regularization)
    return concepts.mapped(derivation.of_tokens), derivation.condition


def _finished(eraser: Eraser, like: Tensor) -> Eraser:
    """`eraser` as the caller gets it: least rank, balanced factors, dtype and device of the concepts."""
    dtype = result_dtype(like)
    if not eraser.is_dense:
        # Directions below a fraction of one rounding unit of the result change nothing in it.
        eraser = eraser.compressed(tolerance=torch.finfo(dtype).eps / 8)
    return eraser.to(like.device, dtype)
