"""RECE (arXiv:2407.12383) as one context transform: the edit, the derivation, and their iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from ..attacks.derivation import Derivation, Derivations
from ..eraser import Eraser, result_dtype
from ..errors import InputError
from ..linear.gram import GRAM_EFFECT, GramTooRough, check_reads, with_gram
from ..linear.moments import PairMoments, PreservedMoment, pair_moments
from ..linear.preserved_subspace import PreservedSubspace
from ..linear.solves import (
    LANCZOS_STEPS,
    SPDSolver,
    add_to_diagonal,
    check_condition,
    cholesky,
    is_above,
    largest_eigenvalue,
    random_column,
    to_float64,
)
from ..linear.thin_system import ThinSystem
from ..pairs import ConceptPair, check_same_dimension
from ..progress import Progress, Steps
from ..settings import DEFAULT_SETTINGS, RECESettings
from ..texts import quoted

_EDIT = "The edit"
_MILDER_EDIT = "Raise 'edit_regularization', or lower 'erase_scale' and 'preserve_scale'."
# ‖T‖² of a transform that changes much.
_MODERATE = 10.0
# So many concepts, and of their tokens so many, are enough to tell that by.
_SAMPLED, _SAMPLED_TOKENS = 4, 64


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
        concepts = [pair.concept for pair in self._pairs]
        return Derivations(self._gram, self._regularization).embeddings(self._before, concepts)


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
    moments: PairMoments, preserved: PreservedMoment, settings: RECESettings, exact: PreservedSubspace | None = None
) -> tuple[Eraser, float]:
    """One closed-form edit (UCE, Eq. 3 of the paper) as a context transform, and its condition number.

    S = (λI + Σ η c* cᵀ + Σ μ p pᵀ) B⁻¹ with B = λI + Σ η c cᵀ + Σ μ p pᵀ, hence
    S − I = (Σ η (c* − c) cᵀ) B⁻¹.

    Args:
        moments: the token pairs (c, c*) with their weights η.
        preserved: Σ p pᵀ.
        settings: λ and μ are read from it.
        exact: what S may not move at all: then every c and p above is replaced by its part outside that span.
    """
    tokens, kept = moments.tokens, preserved.rows
    if tokens is not None and kept is not None and len(tokens) + len(kept) < tokens.shape[1]:
        assert moments.targets is not None  # tokens have theirs
        return _thin_edit(tokens, moments.targets, kept, settings, exact)
    displaced = moments.displacement() if tokens is None or 2 * len(tokens) >= tokens.shape[1] else None
    system = preserved.add_to(moments.second_moment(), settings.preserve_scale)
    if exact is not None:
        system = exact.confine(system)
    solver = SPDSolver(add_to_diagonal(system, settings.edit_regularization), _EDIT, _MILDER_EDIT)
    if displaced is None:
        assert tokens is not None  # few are kept as they are
        assert moments.targets is not None
        right = solver.solve_rows(tokens if exact is None else exact.outside(tokens))
        return Eraser((moments.targets - tokens).T, right), solver.condition
    if exact is not None:
        displaced = exact.outside(displaced)
    return Eraser(solver.solve_rows(displaced, overwrite=True)), solver.condition


def _thin_edit(
    concepts: Tensor, targets: Tensor, kept: Tensor, settings: RECESettings, exact: PreservedSubspace | None
) -> tuple[Eraser, float]:
    """`edit` where all tokens together are fewer than dimensions.

    With all tokens, √η c and √μ p, as the rows of U [n, d], B = λI + UᵀU and U B⁻¹ = (λI + UUᵀ)⁻¹U: a system of n equations.
    """
    rows = torch.cat([concepts, kept * settings.preserve_scale**0.5])
    if exact is not None:
        rows = exact.outside(rows)
    system = add_to_diagonal(rows @ rows.T, settings.edit_regularization)
    # B has the same eigenvalues, and λ in all directions in which no token lies.
    start = random_column(len(system), system.device)
    condition = largest_eigenvalue(lambda x: system @ x, start, LANCZOS_STEPS)[0] / settings.edit_regularization
    check_condition(condition, _EDIT, _MILDER_EDIT)
    right = torch.cholesky_solve(rows, cholesky(system, _EDIT, _MILDER_EDIT))[: len(concepts)]
    return Eraser((targets - concepts).T, right), condition


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
    once, for their Gram matrix, and are not changed. Unless they are float64, or only one or two, its products are computed in
    float32; where the epochs need it more precisely, the weights are read again, in float64. An epoch edits what the one before left, as published, or
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

    def iterated(gram: Tensor, error: float) -> Erasure:
        check_reads(gram, dimension)
        return iterate(gram, pairs, preserve, settings, later_preserve, preserve_exactly, steps.done, error)

    return with_gram(weights, steps, iterated)


def iterate(
    gram: Tensor,
    pairs: Sequence[ConceptPair],
    preserve: Sequence[Tensor],
    settings: RECESettings,
    epoch_preserve: Sequence[Tensor],
    preserve_exactly: Mapping[str, Tensor],
    done: Callable[[str], None] = lambda stage: None,
    gram_error: float = 0.0,
) -> Erasure:
    """The first edit and all epochs from G alone: `erase` after it has read the key and value weights and checked its inputs.

    `done` is called with the name of each stage; G is known up to `gram_error` in the spectral norm.

    Raises:
        GramTooRough: an epoch, or a derivation that measures the erasure, needs G more precisely.
    """
    if not settings.epochs:
        _check_definite(gram, gram_error, settings.regularization)
    exact = _exact_span(preserve_exactly, pairs, gram.device)
    first, every = pair_moments(pairs, settings.erase_scale, gram.device)
    preserved = PreservedMoment.of_prompts(preserve, len(gram), gram.device)
    done("gathering concepts")
    eraser, edit_condition = edit(first, preserved, settings.of_first_edit(), exact)
    done("first edit")
    if epoch_preserve is not preserve:
        preserved = PreservedMoment.of_prompts(epoch_preserve, len(gram), gram.device)

    # Only an anchored iteration needs the first edit's moments any longer.
    collected = first if settings.anchored else every
    del first
    derivations = Derivations(gram, settings.regularization)
    epochs = list[Epoch]()
    for number in range(1, settings.epochs + 1):
        derived, derivation_condition = _derive(derivations, eraser, every, pairs, gram_error)
        if settings.anchored:
            derived = collected = collected.joined(derived)
        step, step_condition = edit(derived, preserved, settings, exact)
        before = _snapshot(eraser, pairs[0].concept)
        epochs.append(
            Epoch(number, step_condition, derivation_condition, gram, before, tuple(pairs), settings.regularization)
        )
        # Every d×d matrix counts at SDXL's size: none outlives its use.
        del derived
        eraser = step if settings.anchored else eraser @ step
        del step
        done(f"epoch {number}")
    # The last decomposition needs room.
    del derivations, every, collected
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


def _derive(
    derivations: Derivations, eraser: Eraser, concepts: PairMoments, pairs: Sequence[ConceptPair], gram_error: float
) -> tuple[PairMoments, float]:
    """The moments of the embeddings derived from `concepts`, those of `pairs`, and the condition number."""
    derivation, tokens = derivations.of_eraser(eraser), concepts.tokens
    known = tokens if tokens is not None else _some_tokens(pairs, derivations.base.gram.device)
    moved = derivation.of_tokens(known)
    if gram_error:
        _check_precision(gram_error, derivations, derivation, eraser, known, moved)
    condition = derivation.condition
    linear = moved if tokens is not None else derivation.of_identity()
    del derivation, known, moved
    return concepts.mapped(linear), condition


def _check_definite(gram: Tensor, error: float, regularization: float) -> None:
    """Raise GramTooRough if an error of G with that spectral norm could make λ_r I + TᵀGT indefinite for a moderate T."""
    excess = _MODERATE * error - regularization
    if excess > 0 and not is_above(gram, excess):
        raise GramTooRough


def _check_precision(
    error: float, derivations: Derivations, derivation: Derivation, eraser: Eraser, concepts: Tensor, derived: Tensor
) -> None:
    """Raise GramTooRough if an error of G with that spectral norm could take derived embeddings c' too far.

    W·T − W follows by less than they do in all measurements (`benchmarks.erase_benchmark.gram_error`).
    With M = λ_r I + TᵀGT, an error E of G moves c' = M⁻¹TᵀG c by M⁻¹TᵀE(c − T c'), and ‖M⁻¹Tᵀ‖² ≤ ‖M⁻¹‖/g for the
    smallest eigenvalue g of G (TᵀT ≤ TᵀGT/g ≤ M/g). Where that is too much, or G was not factored, ‖M⁻¹Tᵀ‖ itself is
    estimated.
    """
    base = derivations.base
    transform = eraser.to(base.gram.device, base.gram.dtype)
    missed = concepts - transform.apply_to_context(derived)
    effect = error * float(missed.norm()) / (GRAM_EFFECT * float(derived.norm()))
    if isinstance(derivation, ThinSystem):
        least = base.solver.smallest - base.regularization
        if least > 0 and (1 / (derivation.smallest * least)) ** 0.5 * effect <= 1:
            return

    def normal(columns: Tensor) -> Tensor:
        """M⁻¹TᵀTM⁻¹·columns."""
        moved = transform.apply_to_context(derivation.solve(columns).T)
        return derivation.solve(transform.apply_to_weight(moved).T)

    start = random_column(transform.dimension, base.gram.device)
    square, _ = largest_eigenvalue(normal, start, LANCZOS_STEPS)
    if square**0.5 * effect > 1:
        raise GramTooRough


def _some_tokens(pairs: Sequence[ConceptPair], device: torch.device) -> Tensor:
    """Some tokens of a few of the concepts, which stand for all: [n, d]."""
    some = torch.cat([pair.all_tokens()[0] for pair in pairs[:: -(-len(pairs) // _SAMPLED)]])
    return to_float64(some[:: -(-len(some) // _SAMPLED_TOKENS)], device)


def _finished(eraser: Eraser, like: Tensor) -> Eraser:
    """`eraser` as the caller gets it: least rank, balanced factors, dtype and device of the concepts."""
    dtype = result_dtype(like)
    if not eraser.is_dense:
        # Directions below a fraction of one rounding unit of the result change nothing in it.
        eraser = eraser.compressed(tolerance=torch.finfo(dtype).eps / 8)
    return eraser.to(like.device, dtype)
