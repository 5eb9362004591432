"""Properties of an erasure that hold whatever the weights and concepts are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from bounds import Noise, assert_same_up_to, gamma, orthogonal, sensitivity, solve, stages, unit
from hypothesis import given
from random_examples import pairs, prompts, stack
from rece_pack.rece_ops import (
    ConceptPair,
    InputError,
    NumericalError,
    RECESettings,
    erase,
    gram_matrix,
    measure,
    relative_changes,
)
from rece_pack.rece_ops.linear.solves import MAX_CONDITION, check_condition
from torch import Tensor

DIMENSION = 32
TOKENS = 5
seeds = st.integers(0, 10_000)


def rounding_of(
    projections: Mapping[str, Tensor],
    concepts: Sequence[ConceptPair],
    preserve: Sequence[Tensor],
    settings: RECESettings,
) -> float:
    """How far two ways to sum up the same erasure may be apart: how far T moves with its inputs, times all roundings."""

    def change(noise: Noise) -> Tensor:
        weights = {name: noise(weight) for name, weight in projections.items()}
        noisy = [replace(pair, concept=noise(pair.concept), target=noise(pair.target)) for pair in concepts]
        return erase(weights, noisy, [noise(tokens) for tokens in preserve], settings).eraser.difference()

    found = 2 * sensitivity(change, tries=2) * stages(DIMENSION, 2 * settings.epochs + 1)
    assert found < 1e-3 * float(change(lambda tensor: tensor).norm()), "this would not find a mistake"
    return found


def rooted(ratio: float) -> float:
    """The rounding of a ratio of norms that come from energies xᵀGx, with G the sum of four layers' moments."""
    lengths = 2 * (4 * DIMENSION + 2 * DIMENSION) + 2 * TOKENS * DIMENSION
    # Energies smaller than the largest by ratio² lose as much; their root loses half of it.
    return gamma(lengths) * (ratio + 1 / ratio)


@given(seeds, st.integers(0, 3))
def test_inputs_are_not_changed(seed: int, epochs: int) -> None:
    projections = stack(DIMENSION, seed=seed)
    concepts, preserve = pairs(2, TOKENS, DIMENSION, seed), prompts(1, TOKENS, DIMENSION, seed)
    tensors = [*projections.values(), *preserve, *(t for pair in concepts for t in (pair.concept, pair.target))]
    before = [tensor.clone() for tensor in tensors]
    erasure = erase(projections, concepts, preserve, RECESettings(epochs=epochs))
    measure(erasure, {"kept": preserve[0]})
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, before, strict=True))


@given(seeds)
def test_the_first_edit_minimises_the_papers_objective(seed: int) -> None:
    """Σ η‖W'c − W c*‖² + Σ μ‖W'p − W p‖² + λ‖W' − W‖² has no smaller value nearby (it is convex)."""
    projections = stack(DIMENSION, layers=1, seed=seed)
    (weight,) = projections.values()
    concepts, preserve = pairs(2, TOKENS, DIMENSION, seed), prompts(2, TOKENS, DIMENSION, seed + 1)
    settings = RECESettings(epochs=0, edit_regularization=0.3, erase_scale=0.7, preserve_scale=0.2)
    eraser = erase(projections, concepts, preserve, settings).eraser

    def objective(candidate: torch.Tensor) -> torch.Tensor:
        total = settings.edit_regularization * (candidate - weight).square().sum()
        for pair in concepts:
            concept, target = pair.subject_tokens()
            total = total + settings.erase_scale * (concept @ candidate.T - target @ weight.T).square().sum()
        for tokens in preserve:
            total = total + settings.preserve_scale * (tokens @ (candidate - weight).T).square().sum()
        return total

    def gradient(candidate: torch.Tensor) -> torch.Tensor:
        candidate = candidate.clone().requires_grad_()
        return torch.autograd.grad(objective(candidate), candidate)[0]

    edited, whole = eraser.apply_to_weight(weight), float(gradient(torch.zeros_like(weight)).norm())
    # The gradient at a solution is twice the system's matrix B times its error.
    rows = torch.cat([*(pair.subject_tokens()[0] for pair in concepts), *preserve])
    largest = settings.edit_regularization + float(torch.linalg.matrix_norm(rows, 2)) ** 2
    condition = largest / settings.edit_regularization
    rounding = 2 * largest * solve(DIMENSION, condition) * float(edited.norm())
    assert float(gradient(edited).norm()) <= rounding < 1e-3 * whole


@given(seeds)
def test_a_heavily_preserved_prompt_stays(seed: int) -> None:
    preserve = prompts(1, TOKENS, DIMENSION, seed + 1)
    drifts = []
    for scale in (0.0, 0.1, 10.0, 1e6):
        settings = RECESettings(epochs=0, preserve_scale=scale)
        erasure = erase(stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed), preserve, settings)
        drifts.append(measure(erasure, {"kept": preserve[0]}).drift["kept"])
    assert drifts == sorted(drifts, reverse=True)
    # No rounding bound: in each direction of the prompt, the change shrinks by (λ + μσ²)/λ, which is above 10⁵ for
    # μ = 10⁶, λ = 0.1 and tokens whose smallest singular value σ is above 0.1.
    assert drifts[-1] < 1e-4 * drifts[0]


@given(seeds)
def test_the_first_edit_may_have_another_preserve_scale(seed: int) -> None:
    """As the authors' scripts run it: UCE's checkpoint with μ = 1, then epochs with 0.1."""
    concepts, preserve = pairs(1, TOKENS, DIMENSION, seed), prompts(1, TOKENS, DIMENSION, seed + 1)
    projections = stack(DIMENSION, seed=seed)
    scripts = erase(projections, concepts, preserve, RECESettings(epochs=1, first_preserve_scale=1.0))
    uce = erase(projections, concepts, preserve, RECESettings(epochs=0, preserve_scale=1.0))
    assert scripts.edit_condition == uce.edit_condition
    paper = erase(projections, concepts, preserve, RECESettings(epochs=1))
    assert paper.edit_condition != scripts.edit_condition
    drifts = [measure(one.until(0), {"kept": preserve[0]}).drift["kept"] for one in (scripts, paper)]
    assert drifts[0] < drifts[1]
    # The epoch's own edit has the μ of the paper: with 1 it would be another.
    heavy = erase(projections, concepts, preserve, RECESettings(epochs=1, preserve_scale=1.0))
    assert torch.equal(scripts.erasers()[0].difference(), heavy.erasers()[0].difference())
    assert not torch.equal(scripts.eraser.difference(), heavy.eraser.difference())


@given(seeds)
def test_more_edit_regularization_changes_less(seed: int) -> None:
    changes = []
    for regularization in (1e-3, 1e-1, 1.0, 100.0):
        settings = RECESettings(epochs=0, edit_regularization=regularization)
        erasure = erase(stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed), (), settings)
        changes.append(float(erasure.eraser.difference().norm()))
    assert changes == sorted(changes, reverse=True)


@given(seeds)
def test_the_span_that_no_concept_touches_is_preserved(seed: int) -> None:
    """T − I reads only B⁻¹c: embeddings orthogonal to all concepts and preserved prompts pass unchanged."""
    concepts = pairs(1, TOKENS, DIMENSION, seed)
    erasure = erase(stack(DIMENSION, seed=seed), concepts, (), RECESettings(epochs=0))
    basis, _ = torch.linalg.qr(concepts[0].concept.T, mode="complete")
    untouched = basis[:, TOKENS:].T
    # The change is (c* − c)(B⁻¹c)ᵀ, of which the second factor is solved for, and the basis has an error of its own.
    eraser = erasure.eraser
    rounding = solve(DIMENSION, erasure.edit_condition) + orthogonal(DIMENSION, DIMENSION)
    assert_same_up_to(eraser.apply_to_context(untouched), untouched, rounding * float(eraser.difference().norm()) * 2)


@given(seeds)
def test_the_order_of_concepts_and_layers_does_not_matter(seed: int) -> None:
    projections, concepts = stack(DIMENSION, seed=seed), pairs(3, TOKENS, DIMENSION, seed, targets=2)
    forward = erase(projections, concepts, (), RECESettings(epochs=2)).eraser.matrix()
    backward = erase(
        dict(reversed(projections.items())), list(reversed(concepts)), (), RECESettings(epochs=2)
    ).eraser.matrix()
    assert_same_up_to(forward, backward, rounding_of(projections, concepts, (), RECESettings(epochs=2)))


@given(seeds)
def test_a_pair_of_weight_two_counts_as_two_pairs(seed: int) -> None:
    projections, (pair,) = stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed)
    double = ConceptPair("double", pair.concept, pair.target, pair.concept_start, pair.target_start, scale=2.0)
    once = erase(projections, [double], (), RECESettings(epochs=1)).eraser.matrix()
    twice = erase(projections, [pair, pair], (), RECESettings(epochs=1)).eraser.matrix()
    assert_same_up_to(once, twice, rounding_of(projections, [pair, pair], (), RECESettings(epochs=1)))


def test_half_precision_inputs_give_a_float32_eraser_near_the_exact_one() -> None:
    projections = stack(DIMENSION)
    concepts = pairs(1, TOKENS, DIMENSION, dtype=torch.float16)
    exact = [
        ConceptPair(p.name, p.concept.double(), p.target.double(), p.concept_start, p.target_start) for p in concepts
    ]
    ours = erase(projections, concepts, (), RECESettings(epochs=2)).eraser
    reference = erase(projections, exact, (), RECESettings(epochs=2)).eraser
    assert ours.dtype == torch.float32
    # Each balanced factor is rounded to float32 once; the product, of their exact values, is ours.
    left, right = (factor.double() for factor in (ours.left, ours.right))
    dropped = torch.finfo(torch.float32).eps / 8 * float(torch.linalg.matrix_norm(left @ right, 2)) * DIMENSION**0.5
    rounding = 2.1 * unit(torch.float32) * float((left.abs() @ right.abs()).norm()) + dropped
    rounding += rounding_of(projections, exact, (), RECESettings(epochs=2))
    assert_same_up_to(left @ right, reference.difference(), rounding)
    assert rounding < 1e-5 * float(reference.difference().norm())


def test_eraser_at_walks_through_the_epochs() -> None:
    projections, concepts = stack(DIMENSION), pairs(1, TOKENS, DIMENSION)
    full = erase(projections, concepts, (), RECESettings(epochs=3))
    for epochs in range(4):
        settings = RECESettings(epochs=epochs)
        alone = erase(projections, concepts, (), settings).eraser
        assert_same_up_to(
            full.eraser_at(epochs).matrix(), alone.matrix(), rounding_of(projections, concepts, (), settings)
        )
    with pytest.raises(InputError, match="no epoch 4"):
        full.eraser_at(4)


def test_progress_is_told_of_every_step_and_may_cancel() -> None:
    told: list[tuple[int, int]] = []
    projections, concepts = stack(DIMENSION, layers=3), pairs(1, TOKENS, DIMENSION)
    erase(projections, concepts, settings=RECESettings(epochs=2), progress=lambda i, n, _: told.append((i, n)))
    assert told == [(i, 7) for i in range(1, 8)]

    class Cancelled(BaseException):
        pass

    def cancel(done: int, total: int, stage: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        erase(projections, concepts, progress=cancel)


def test_projections_are_read_once_and_one_at_a_time() -> None:
    reads: list[str] = []

    class Lazy(dict[str, torch.Tensor]):
        def __getitem__(self, key: str) -> torch.Tensor:
            reads.append(key)
            return super().__getitem__(key)

    projections = Lazy(stack(DIMENSION))
    erase(projections, pairs(1, TOKENS, DIMENSION), (), RECESettings(epochs=3))
    assert reads == list(projections)


# What a tired person might give, and the words of the answer.


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", -1, "epochs is -1"),
        ("epochs", 51, "epochs is 51"),
        ("epochs", 1.5, "whole number"),
        ("epochs", True, "whole number"),
        ("regularization", 0.0, "regularization is 0.0: give a finite number above zero"),
        ("regularization", float("nan"), "finite"),
        ("edit_regularization", -0.1, "above zero"),
        ("edit_regularization", float("inf"), "finite"),
        ("erase_scale", 0, "above zero"),
        ("erase_scale", "1", "no number"),
        ("preserve_scale", -1e-9, "zero or more"),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RECESettings(**{field: value})


def test_bad_inputs_are_refused_in_a_sentence() -> None:
    projections, concepts = stack(DIMENSION), pairs(1, TOKENS, DIMENSION)
    with pytest.raises(InputError, match="No concept"):
        erase(projections, [])
    with pytest.raises(InputError, match="no weight"):
        erase({}, concepts)
    with pytest.raises(InputError, match="belongs to another model"):
        erase(stack(DIMENSION + 1), concepts)
    with pytest.raises(InputError, match="preserved prompt 1 have dimension 8"):
        erase(projections, concepts, [torch.zeros(TOKENS, 8)])
    with pytest.raises(InputError, match="same text encoder"):
        erase(projections, [*concepts, *pairs(1, TOKENS, 8)])
    broken = stack(DIMENSION)
    broken["layer2"][0, 0] = float("nan")
    with pytest.raises(InputError, match="'layer2' holds NaN"):
        erase(broken, concepts)
    with pytest.raises(InputError, match="'layer1' has shape"):
        erase({**projections, "layer1": torch.zeros(3, 4)}, concepts)


def test_an_empty_projection_is_refused() -> None:
    """It has no numbers that could be wrong, and none that could be right."""
    concepts = pairs(1, TOKENS, DIMENSION)
    for place in range(2):
        weights = {f"layer{number}": weight for number, weight in enumerate(stack(DIMENSION).values())}
        weights[f"layer{place}"] = torch.zeros(0, DIMENSION, dtype=torch.float64)
        for use in (gram_matrix, lambda given: erase(given, concepts)):
            with pytest.raises(InputError, match=f"Weight 'layer{place}' is empty"):
                use(weights)


def test_bad_pairs_are_refused_in_a_sentence() -> None:
    good = torch.zeros(TOKENS, DIMENSION)
    with pytest.raises(InputError, match="NaN or infinite"):
        ConceptPair("x", good + float("inf"), good)
    with pytest.raises(InputError, match="dimension 3"):
        ConceptPair("x", good, torch.zeros(TOKENS, 3))
    with pytest.raises(InputError, match="give a tensor"):
        ConceptPair("x", good[0], good)
    with pytest.raises(InputError, match="floating-point"):
        ConceptPair("x", good.int(), good)
    with pytest.raises(InputError, match="target_start of concept 'x' is 5"):
        ConceptPair("x", good, good, 0, TOKENS)
    with pytest.raises(InputError, match="weight of concept 'x'"):
        ConceptPair("x", good, good, scale=0.0)


def test_an_ill_conditioned_solve_names_the_setting_to_change() -> None:
    projections, concepts = stack(DIMENSION), pairs(1, TOKENS, DIMENSION)
    with pytest.raises(NumericalError, match="Raise 'edit_regularization'"):
        erase(projections, concepts, (), RECESettings(edit_regularization=1e-13))
    with pytest.raises(NumericalError, match="Raise 'regularization'"):
        erase({"thin": torch.ones(1, DIMENSION)}, concepts, (), RECESettings(regularization=1e-14))


def test_the_largest_condition_number_that_is_solved_is_the_one_that_is_stated() -> None:
    check_condition(MAX_CONDITION, "It", "Change it.")
    for condition in (MAX_CONDITION * (1 + 1e-12), math.inf, math.nan):
        with pytest.raises(NumericalError, match=r"It is too ill-conditioned .* Change it\."):
            check_condition(condition, "It", "Change it.")


def test_condition_numbers_are_the_true_ones() -> None:
    projections, concepts = stack(DIMENSION), pairs(1, TOKENS, DIMENSION)
    erasure = erase(projections, concepts, (), RECESettings(epochs=0))
    concept = concepts[0].subject_tokens()[0]
    true = float(torch.linalg.cond(0.1 * torch.eye(DIMENSION, dtype=torch.float64) + concept.T @ concept))
    # A lower bound, up to the rounding of the solves in it; there are six different eigenvalues, and twelve Lanczos steps
    # find them all.
    assert 0.999 * true <= erasure.edit_condition <= true * (1 + 2 * solve(DIMENSION, true))


def test_measures_mean_what_their_definitions_say() -> None:
    projections, concepts = stack(DIMENSION), pairs(2, TOKENS, DIMENSION, targets=2)
    kept = prompts(1, TOKENS, DIMENSION, seed=9)[0]
    erasure = erase(projections, concepts, [kept], RECESettings(epochs=2))
    found = measure(erasure, {"kept": kept})
    weights = torch.cat(list(projections.values()))
    edited = erasure.eraser.apply_to_weight(weights)
    for pair, measured in zip(concepts, found.concepts, strict=True):
        concept, target = pair.subject_tokens()
        left = (concept @ edited.T - target @ weights.T).norm()
        whole = ((concept - target) @ weights.T).norm()
        assert_same_up_to(measured.residual, left / whole, rooted(float(left / whole)))
        derived = erasure.epochs[1].derived[concepts.index(pair)]
        before = erasure.eraser_at(1).apply_to_weight(weights)
        missed = (derived @ before.T - pair.concept @ weights.T).norm()
        gap = ((pair.target - pair.concept) @ weights.T).norm()
        again = solve(DIMENSION, erasure.epochs[1].derivation_condition) * float(
            (pair.concept @ weights.T).norm() / gap
        )
        assert abs(measured.regeneration[1] - max(0.0, 1 - float(missed / gap))) <= rooted(float(missed / gap)) + again
        assert len(measured.regeneration) == 3
    drift = (kept @ (edited - weights).T).norm() / (kept @ weights.T).norm()
    assert_same_up_to(found.drift["kept"], drift, rooted(float(drift)))
    change = (edited - weights).norm() / weights.norm()
    assert_same_up_to(found.total_change, change, rooted(float(change)))
    for name, change in relative_changes(projections, erasure.eraser).items():
        exact = (erasure.eraser.apply_to_weight(projections[name]) - projections[name]).norm()
        share = float(exact / projections[name].norm())
        assert_same_up_to(change, share, rooted(share))


def test_an_untouched_model_has_residual_one_and_is_fully_regenerated() -> None:
    projections, concepts = stack(DIMENSION), pairs(1, TOKENS, DIMENSION)
    settings = RECESettings(epochs=0, edit_regularization=1e9, regularization=1e-6)
    found = measure(erase(projections, concepts, (), settings), {})
    # λ of 1e9 leaves c cᵀ/λ of a concept with ‖c‖² of a few hundred; λ_r of 1e-6 shrinks c' by λ_r over G's eigenvalues.
    size = float(concepts[0].concept.norm()) ** 2
    bias = size / 1e9 * float(torch.linalg.cond(gram_matrix(projections)))
    assert abs(found.concepts[0].residual - 1) <= 2 * bias
    assert 1 - found.concepts[0].regeneration[0] <= 2 * bias + 1e-6 * size < 1e-2


def test_a_prompt_that_lies_where_the_concepts_do_goes_with_them() -> None:
    concepts = pairs(4, TOKENS, DIMENSION)
    near = concepts[0].concept.clone()
    ruined = measure(erase(stack(DIMENSION), concepts, (), RECESettings(epochs=0)), {}, {"near": near})
    assert ruined.held_out_drift["near"] > 0.5  # most of it, no rounding bound


@given(seeds, st.sampled_from([1, 2, 9]), st.integers(1, 3))
def test_an_anchored_epoch_is_one_edit_of_the_original_weights_with_all_pairs_so_far(
    seed: int, count: int, epochs: int
) -> None:
    projections = stack(DIMENSION, seed=seed)
    concepts = [
        ConceptPair(pair.name, pair.concept.double(), pair.target.double(), pair.concept_start, pair.target_start)
        for pair in pairs(count, TOKENS, DIMENSION, seed)
    ]
    preserve = [tokens.double() for tokens in prompts(2, TOKENS, DIMENSION, seed + 1)]
    settings = RECESettings(epochs=epochs, anchored=True)
    erasure = erase(projections, concepts, preserve, settings)
    derived = [
        ConceptPair(f"{pair.name} {epoch.number}", tokens, pair.target)
        for epoch in erasure.epochs
        for pair, tokens in zip(concepts, epoch.derived, strict=True)
    ]
    at_once = erase(projections, [*concepts, *derived], preserve, RECESettings(epochs=0))
    assert_same_up_to(
        erasure.eraser.matrix(), at_once.eraser.matrix(), rounding_of(projections, concepts, preserve, settings)
    )


@given(seeds)
def test_an_anchored_iteration_does_not_forget_the_concept(seed: int) -> None:
    """The own pairs stay in every edit, so the residual cannot grow far; the published iteration has no such bound."""
    projections, concepts = stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed)
    preserve = prompts(1, TOKENS, DIMENSION, seed + 1)
    published, anchored = (
        measure(erase(projections, concepts, preserve, RECESettings(epochs=5, anchored=anchored)), {})
        for anchored in (False, True)
    )
    assert anchored.concepts[0].residual <= published.concepts[0].residual


def test_anchored_is_true_or_false() -> None:
    with pytest.raises(InputError, match="anchored is 'yes'"):
        RECESettings(anchored="yes")  # type: ignore[arg-type]
