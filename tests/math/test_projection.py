"""What the projection guarantees, on random weights and concepts."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from bounds import assert_same_up_to, gamma, orthogonal, product, projection_rounding, solve
from hypothesis import given
from random_examples import pairs, prompts, stack
from rece_pack.rece_ops import (
    ConceptPair,
    Contrast,
    Differences,
    InputError,
    Projection,
    ProjectionSettings,
    derive_embedding,
    gram_matrix,
    project,
    project_differences,
)
from rece_pack.rece_ops.linear.directions import METRIC_FLOOR, NEGLIGIBLE
from rece_pack.rece_ops.linear.moments import TokenSum
from rece_pack.rece_ops.measures.erasure import measure
from rece_pack.rece_ops.measures.outputs import residuals

DIMENSION = 32
TOKENS = 5
# Of the derivation: small compared with the eigenvalues of G.
REGULARIZATION = 1e-6
seeds = st.integers(0, 10_000)
robustness = st.sampled_from([0.01, 1.0, 30.0, 1e4])


def projected(seed: int, beta: float = 30.0, concepts: int = 2, **settings: object) -> Projection:
    return project(
        stack(DIMENSION, seed=seed),
        pairs(concepts, TOKENS, DIMENSION, seed),
        prompts(12, TOKENS, DIMENSION, seed + 1),
        ProjectionSettings(robustness=beta, **settings),
    )


def left_out(found: Projection) -> float:
    """What rounding leaves of a difference all of whose directions go, relative to it.

    Directions with less than NEGLIGIBLE of the energy are taken for rounding: of the differences' norm, its root.
    """
    spread = float(torch.linalg.cond(found.gram)) ** 0.5
    return (4 * NEGLIGIBLE**0.5 * len(found.pairs) * spread + 2 * projection_rounding(found)) * float(
        found.eraser.matrix().norm()
    )


def norms(rows: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return ((rows @ gram) * rows).sum(dim=1).clamp(min=0).sqrt()


@given(seeds, robustness)
def test_no_embedding_gives_a_component_along_the_readers(seed: int, beta: float) -> None:
    found = projected(seed, beta)
    scale = float(torch.linalg.matrix_norm(found.readers))
    assert torch.linalg.matrix_norm(found.readers.T @ found.eraser.matrix()) <= projection_rounding(found) * scale


@given(seeds, robustness)
def test_it_is_a_projection_that_removes_the_directions(seed: int, beta: float) -> None:
    found = projected(seed, beta)
    matrix = found.eraser.matrix()
    rounding = projection_rounding(found)
    assert_same_up_to(matrix @ matrix, matrix, 3 * rounding * float(matrix.norm()))
    sizes = float(found.directions.norm())
    assert_same_up_to(matrix @ found.directions, torch.zeros_like(found.directions), 2 * rounding * sizes)
    # The metric has a floor of 1e-9 of its mean eigenvalue, which counts most in the narrowest direction.
    values = torch.linalg.eigvalsh(found.gram)
    floor = 2 * METRIC_FLOOR * float(values.mean() / values[0]) * found.directions.shape[1] ** 0.5
    again = found.directions.T @ found.gram @ found.directions
    assert_same_up_to(again, torch.eye(found.directions.shape[1]), floor + 3 * rounding)


@given(seeds, robustness)
def test_no_output_comes_closer_to_the_concept_than_the_bound(seed: int, beta: float) -> None:
    found = projected(seed, beta)
    concept = found.pairs[0].concept.double()
    bound = found.distance_bound(concept)
    derived = derive_embedding(found.gram, found.eraser, concept, REGULARIZATION)
    tries = [concept, derived, *(torch.randn_like(concept) * 10**power for power in range(-2, 3))]
    for tokens in tries:
        reached = norms(found.eraser.apply_to_context(tokens) - concept, found.gram)
        sizes = norms(tokens, found.gram) + norms(concept, found.gram)
        assert (reached >= bound * (1 - METRIC_FLOOR * DIMENSION) - projection_rounding(found) * sizes).all()
    # And the bound is reached, but for what λ_r costs: ‖Tc' − c‖² + λ_r‖c'‖² is the least, so that it is no more than at
    # the nearest point p of T's range, which T leaves alone: bound² + λ_r‖p‖², with ‖p‖_G ≤ ‖c‖_G.
    smallest = torch.linalg.eigvalsh(found.gram)[0] * (1 - solve(DIMENSION, float(torch.linalg.cond(found.gram))))
    cost = REGULARIZATION * norms(concept, found.gram).square() / smallest
    reached = norms(found.eraser.apply_to_context(derived) - concept, found.gram)
    sizes = norms(derived, found.gram) + norms(concept, found.gram)
    assert (
        reached <= (bound.square() + cost).sqrt() * (1 + METRIC_FLOOR * DIMENSION) + projection_rounding(found) * sizes
    ).all()


@given(seeds)
def test_each_group_that_stays_counts_as_much_as_the_targets(seed: int) -> None:
    weights, erased = stack(DIMENSION, seed=seed), pairs(2, TOKENS, DIMENSION, seed)
    staying = prompts(4, TOKENS, DIMENSION, seed + 1)
    targets = [pair.subject_tokens()[1] for pair in erased]
    as_targets = project(weights, erased, staying, ProjectionSettings())
    as_a_group = project(weights, erased, staying, ProjectionSettings(target_scale=0), neutral=targets)
    # The same sums in another order.
    one, other = as_targets.eraser.matrix(), as_a_group.eraser.matrix()
    assert_same_up_to(one, other, 2 * projection_rounding(as_targets) * float(one.norm()))


@given(seeds)
def test_every_direction_kept_makes_the_concept_its_target(seed: int) -> None:
    found = projected(seed, energy=1.0)
    for pair in found.pairs:
        concept, target = (rows.double() for rows in pair.subject_tokens())
        moved = [found.eraser.apply_to_context(rows) for rows in (concept, target)]
        assert_same_up_to(*moved, left_out(found) * float((concept - target).norm()))


@given(seeds)
def test_many_concepts_are_folded_into_their_second_moment(seed: int) -> None:
    """More tokens than dimensions: the guarantees hold, and the directions are those of all the differences."""
    found = projected(seed, concepts=12, directions=3)
    root = torch.linalg.cholesky(found.gram)
    rows = []
    for pair in found.pairs:
        concept, target = (side.double() for side in pair.subject_tokens())
        difference = (concept - target) @ root
        rows.append(difference / torch.linalg.matrix_norm(difference))
    # All of the energy outside the directions is that of the smaller principal components.
    inside = (torch.cat(rows) @ torch.linalg.qr(root.T @ found.directions).Q).square().sum()
    singular = torch.linalg.svdvals(torch.cat(rows)).square()
    # The floor under the metric moves it by that share of its narrowest direction.
    values = torch.linalg.eigvalsh(found.gram)
    relative = 4 * METRIC_FLOOR * float(values.mean() / values[0]) + 10 * orthogonal(60, DIMENSION)
    assert abs(float(inside - singular[:3].sum())) <= relative * float(singular.sum())
    assert_same_up_to(found.spectrum[:3], singular[:3] / singular.sum(), relative)
    scale = float(torch.linalg.matrix_norm(found.readers))
    assert torch.linalg.matrix_norm(found.readers.T @ found.eraser.matrix()) <= projection_rounding(found) * scale


@given(seeds)
def test_without_limit_to_robustness_it_is_orthogonal_in_the_metric(seed: int) -> None:
    found = projected(seed, 1e12)
    expected = torch.eye(DIMENSION).double() - found.directions @ found.directions.T @ found.gram
    # What stays has 1e-12 of the weight; the floor under the metric has 1e-9 of its mean eigenvalue.
    values = torch.linalg.eigvalsh(found.gram)
    bias = (1e-12 * DIMENSION + 2 * METRIC_FLOOR) * float(values[-1] / values[0]) * float(expected.norm())
    assert_same_up_to(found.eraser.matrix(), expected, bias + 2 * projection_rounding(found))


@given(seeds, st.integers(0, 1000))
def test_no_other_map_with_that_kernel_costs_less(seed: int, other: int) -> None:
    found = projected(seed)
    neutral = torch.cat(prompts(12, TOKENS, DIMENSION, seed + 1)).double()
    targets = torch.cat([pair.subject_tokens()[1] for pair in found.pairs]).double()
    moment = neutral.T @ neutral / len(neutral) + targets.T @ targets / len(targets)
    inverse = torch.linalg.inv(found.gram)
    beta = found.settings.robustness * moment.trace() / inverse.trace()
    system = moment + beta * inverse
    best = torch.linalg.solve(found.readers.T @ found.directions, found.readers.T)

    def cost(candidate: torch.Tensor) -> float:
        return float((candidate @ system * candidate).sum())

    step = torch.randn(best.shape, generator=torch.Generator().manual_seed(other), dtype=torch.float64)
    # Any step that keeps M Δ = I.
    basis = torch.linalg.qr(found.directions).Q
    step = step - step @ basis @ basis.T
    assert cost(best + 0.01 * step) > cost(best)


@given(seeds)
def test_more_robustness_moves_the_bound_up_and_the_price_too(seed: int) -> None:
    neutral = torch.cat(prompts(12, TOKENS, DIMENSION, seed + 1)).double()
    bounds, prices = [], []
    for beta in (0.01, 1.0, 100.0, 1e4):
        found = projected(seed, beta, target_scale=0.0)
        bounds.append(float(found.distance_bound(found.pairs[0].subject_tokens()[0]).square().sum()))
        moved = found.eraser.apply_to_context(neutral) - neutral
        prices.append(float(norms(moved, found.gram).square().sum()))
    assert prices == sorted(prices)
    assert bounds[-1] >= bounds[0] * (1 - projection_rounding(found))


@given(seeds)
def test_neutral_prompts_together_count_as_much_as_preserved_ones(seed: int) -> None:
    preserved, neutral = (prompts(count, TOKENS, DIMENSION, seed + count) for count in (2, 20))
    arguments = stack(DIMENSION, seed=seed), pairs(2, TOKENS, DIMENSION, seed)
    found = project(*arguments, preserved, neutral=neutral)
    # Twice the same prompts in one group are the same group.
    same = project(*arguments, preserved * 2, neutral=neutral)
    swapped = project(*arguments, neutral, neutral=preserved)
    for other in (same, swapped):
        assert_same_up_to(found.eraser.matrix(), other.eraser.matrix(), 2 * projection_rounding(found))


@given(seeds)
def test_contrasts_say_what_goes(seed: int) -> None:
    arguments = stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed), prompts(12, TOKENS, DIMENSION, seed + 1)
    contrasts = [Contrast.of(pair) for pair in pairs(2, TOKENS, DIMENSION, seed + 2)]
    found = project(*arguments, ProjectionSettings(energy=1.0), contrasts=contrasts)
    matrix = found.eraser.matrix()
    for contrast in contrasts:
        concept, other = (side.double() for side in (contrast.concept, contrast.others))
        rounding = left_out(found) * len(contrasts) * float((concept - other).norm())
        assert_same_up_to(concept @ matrix.T, other @ matrix.T, rounding)
    assert found.pairs == tuple(arguments[1])
    by_default, the_same = (
        project(*arguments, contrasts=given) for given in ((), [Contrast.of(pair) for pair in arguments[1]])
    )
    assert torch.equal(by_default.eraser.matrix(), the_same.eraser.matrix())


@given(seeds)
def test_a_contrast_stands_for_the_concept_of_its_name(seed: int) -> None:
    arguments = stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed), prompts(12, TOKENS, DIMENSION, seed + 1)
    other, target = pairs(2, TOKENS, DIMENSION, seed + 2)
    for replacement, become in ((None, other.target), (target.target, target.target)):
        beside = Contrast(arguments[1][0].name, other.concept, other.target, replacement)
        judged = project(*arguments, contrasts=[beside])
        expected = ConceptPair(beside.name, beside.concept, become)
        assert measure(judged, {}).concepts[0].residual == residuals(judged.gram, judged.eraser, [expected])[0]


@given(seeds, robustness)
def test_a_target_takes_the_place_of_what_is_erased(seed: int, beta: float) -> None:
    """T c = T o + T₀(c* − o) where every direction of c − o goes, and still no embedding gives what R reads."""
    arguments = stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed), prompts(12, TOKENS, DIMENSION, seed + 1)
    settings = ProjectionSettings(beta, energy=1.0)
    concept, target = (pair.concept for pair in pairs(2, TOKENS, DIMENSION, seed + 2))
    others = prompts(1, TOKENS, DIMENSION, seed + 3)[0]
    dropped, replaced = (
        project(*arguments, settings, contrasts=[Contrast("concept", concept, others, replacement)])
        for replacement in (None, target)
    )
    matrix, without = replaced.eraser.matrix(), dropped.eraser.matrix()
    scale, rounding = (
        float(torch.linalg.matrix_norm(replaced.readers)),
        projection_rounding(replaced) + projection_rounding(dropped),
    )
    assert torch.linalg.matrix_norm(replaced.readers.T @ matrix) <= rounding * scale * float(matrix.norm())
    moved, wanted = (concept - others).double() @ matrix.T, (target - others).double() @ without.T
    sizes = float((concept - others).norm() + (target - others).norm()) * float(matrix.norm() + without.norm())
    # τ is fitted to coordinates along the directions, whose spread the pseudo-inverse amplifies rounding by.
    spread = float((replaced.spectrum[0] / replaced.spectrum[replaced.eraser.rank - 1]) ** 0.5)
    assert_same_up_to(moved, wanted, (left_out(dropped) + 2 * rounding * spread) * sizes)
    assert replaced.eraser.rank == dropped.eraser.rank


@given(seeds)
def test_only_concepts_with_targets_get_one(seed: int) -> None:
    """Of two concepts, the one without a target comes out as the other words do."""
    arguments = stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed), prompts(12, TOKENS, DIMENSION, seed + 1)
    one, two, target = (pair.concept for pair in pairs(3, TOKENS, DIMENSION, seed + 2))
    others = prompts(1, TOKENS, DIMENSION, seed + 3)[0]
    contrasts = [Contrast("one", one, others, target), Contrast("two", two, others)]
    matrix = project(*arguments, ProjectionSettings(energy=1.0), contrasts=contrasts).eraser.matrix()
    found = project(*arguments, ProjectionSettings(energy=1.0), contrasts=contrasts)
    size = float(matrix.norm() * (two - others).norm())
    spread = float((found.spectrum[0] / found.spectrum[found.eraser.rank - 1]) ** 0.5)
    rounding = (2 * left_out(found) + projection_rounding(found) * spread) * size
    assert_same_up_to((two - others).double() @ matrix.T, torch.zeros_like(two), rounding)
    # The other one comes out as its target, which is far from nothing.
    assert torch.linalg.matrix_norm((one - others).double() @ matrix.T) > 100 * rounding


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"robustness": 0.0}, "robustness is 0.0"),
        ({"robustness": float("nan")}, "robustness is nan"),
        ({"energy": 0.0}, "energy is 0.0"),
        ({"energy": 1.5}, "energy is 1.5"),
        ({"directions": 0}, "directions is 0"),
        ({"directions": 2.5}, "directions is 2.5"),
        ({"directions": 1000}, "directions is 1000"),
        ({"target_scale": -1.0}, "target_scale is -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ProjectionSettings(**settings)


def test_more_directions_than_there_are_differences_are_refused() -> None:
    with pytest.raises(InputError, match=f"directions is {DIMENSION}, but the concepts differ"):
        projected(0, concepts=1, directions=DIMENSION)


def test_a_concept_that_is_its_target_is_refused() -> None:
    (tokens,) = prompts(1, TOKENS, DIMENSION, 0)
    with pytest.raises(InputError, match="'same' and its target are the same"):
        project(stack(DIMENSION, seed=0), [ConceptPair("same", tokens, tokens.clone())], [tokens])


def test_without_anything_to_keep_it_is_refused() -> None:
    with pytest.raises(InputError, match="Nothing is to stay"):
        project(
            stack(DIMENSION, seed=0),
            pairs(1, TOKENS, DIMENSION, 0),
            settings=ProjectionSettings(target_scale=0.0),
        )


def test_the_gram_matrix_is_that_of_the_projections() -> None:
    assert torch.equal(projected(3).gram, gram_matrix(stack(DIMENSION, seed=3)))


@pytest.mark.parametrize("name", ["robustness", "energy", "target_scale", "regularization"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "much"])
def test_settings_that_are_no_coefficients_are_refused(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        ProjectionSettings(**{name: value})


@given(seeds)
def test_what_examples_have_without_the_concept_counts_as_much_as_neutral_prompts(seed: int) -> None:
    weights, given_pairs = stack(DIMENSION, seed=seed), pairs(2, TOKENS, DIMENSION, seed)
    kept, others = (prompts(6, TOKENS, DIMENSION, seed + offset) for offset in (1, 2))
    gram = gram_matrix(weights)

    def found(**staying: object) -> Projection:
        differences = Differences(gram)
        for pair in given_pairs:
            differences.add(Contrast.of(pair))
        return project_differences(differences, given_pairs, kept, ProjectionSettings(), **staying)

    without = TokenSum(DIMENSION, gram.device)
    for tokens in others:
        without.add(tokens)
    assert without.count == 6 * TOKENS
    summed, listed = found(without=without), found(neutral=others)
    rounding = projection_rounding(summed) + projection_rounding(listed)
    assert_same_up_to(summed.eraser.matrix(), listed.eraser.matrix(), rounding)
    assert float((summed.eraser.matrix() - found().eraser.matrix()).norm()) > 100 * rounding


def test_tokens_in_float32_are_summed_in_float64() -> None:
    texts = [one.float() for one in prompts(40, TOKENS, DIMENSION)]
    found = TokenSum(DIMENSION, texts[0].device)
    for text in texts:
        found.add(text)
    rows = torch.cat(texts).double()
    assert found.count == len(rows)
    # Both sums have that many terms, in one order or another; then come the division and its undoing.
    error = 2 * product(rows.T, rows, torch.float64) + gamma(2) * (rows.abs().T @ rows.abs())
    assert (found.mean * len(rows) - rows.T @ rows).abs().le(error).all()
