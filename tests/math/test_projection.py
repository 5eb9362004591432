"""What the projection guarantees, on random weights and concepts."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from random_examples import pairs, prompts, stack

from rece_ops import (
    ConceptPair,
    Contrast,
    InputError,
    Projection,
    ProjectionSettings,
    derive_embedding,
    gram_matrix,
    project,
)
from rece_ops.measures.erasure import measure
from rece_ops.measures.outputs import residuals

DIMENSION = 32
TOKENS = 5
seeds = st.integers(0, 10_000)
robustness = st.sampled_from([0.01, 1.0, 30.0, 1e4])
# Products of 32 float64 numbers of size 1 to 10, times condition numbers up to 1e4.
ROUNDING = 1e-9


def projected(seed: int, beta: float = 30.0, concepts: int = 2, **settings: object) -> Projection:
    return project(
        stack(DIMENSION, seed=seed),
        pairs(concepts, TOKENS, DIMENSION, seed),
        prompts(12, TOKENS, DIMENSION, seed + 1),
        ProjectionSettings(robustness=beta, **settings),
    )


def norms(rows: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return ((rows @ gram) * rows).sum(dim=1).clamp(min=0).sqrt()


@given(seeds, robustness)
def test_no_embedding_gives_a_component_along_the_readers(seed: int, beta: float) -> None:
    found = projected(seed, beta)
    scale = torch.linalg.matrix_norm(found.readers)
    assert torch.linalg.matrix_norm(found.readers.T @ found.eraser.matrix()) < ROUNDING * scale


@given(seeds, robustness)
def test_it_is_a_projection_that_removes_the_directions(seed: int, beta: float) -> None:
    found = projected(seed, beta)
    matrix = found.eraser.matrix()
    torch.testing.assert_close(matrix @ matrix, matrix, rtol=0, atol=1e-8)
    torch.testing.assert_close(matrix @ found.directions, torch.zeros_like(found.directions), rtol=0, atol=1e-8)
    identity = torch.eye(found.directions.shape[1], dtype=torch.float64)
    torch.testing.assert_close(found.directions.T @ found.gram @ found.directions, identity, rtol=0, atol=1e-6)


@given(seeds, robustness)
def test_no_output_comes_closer_to_the_concept_than_the_bound(seed: int, beta: float) -> None:
    found = projected(seed, beta)
    concept = found.pairs[0].concept.double()
    bound = found.distance_bound(concept)
    derived = derive_embedding(found.gram, found.eraser, concept, 1e-6)
    tries = [concept, derived, *(torch.randn_like(concept) * 10**power for power in range(-2, 3))]
    for tokens in tries:
        reached = norms(found.eraser.apply_to_context(tokens) - concept, found.gram)
        assert (reached >= bound * (1 - 1e-6)).all()
    # And the bound is reached: by the nearest embedding whose output has no component along R.
    assert (norms(found.eraser.apply_to_context(derived) - concept, found.gram) < bound * 1.01 + 1e-3).all()


@given(seeds)
def test_every_direction_kept_makes_the_concept_its_target(seed: int) -> None:
    found = projected(seed, energy=1.0)
    for pair in found.pairs:
        concept, target = (found.eraser.apply_to_context(rows.double()) for rows in pair.subject_rows())
        torch.testing.assert_close(concept, target, rtol=0, atol=1e-6)


@given(seeds)
def test_many_concepts_are_folded_into_their_second_moment(seed: int) -> None:
    """More tokens than dimensions: the guarantees hold, and the directions are those of all the differences."""
    found = projected(seed, concepts=12, directions=3)
    root = torch.linalg.cholesky(found.gram)
    rows = []
    for pair in found.pairs:
        concept, target = (side.double() for side in pair.subject_rows())
        difference = (concept - target) @ root
        rows.append(difference / torch.linalg.matrix_norm(difference))
    # All of the energy beside the directions is that of the smaller principal components.
    inside = (torch.cat(rows) @ torch.linalg.qr(root.T @ found.directions).Q).square().sum()
    singular = torch.linalg.svdvals(torch.cat(rows)).square()
    torch.testing.assert_close(inside, singular[:3].sum(), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.spectrum[:3], singular[:3] / singular.sum(), rtol=1e-6, atol=0)
    assert torch.linalg.matrix_norm(found.readers.T @ found.eraser.matrix()) < ROUNDING * 10


@given(seeds)
def test_without_limit_to_robustness_it_is_orthogonal_in_the_metric(seed: int) -> None:
    found = projected(seed, 1e12)
    expected = torch.eye(DIMENSION).double() - found.directions @ found.directions.T @ found.gram
    torch.testing.assert_close(found.eraser.matrix(), expected, rtol=0, atol=1e-6)


@given(seeds, st.integers(0, 1000))
def test_no_other_map_with_that_kernel_costs_less(seed: int, other: int) -> None:
    found = projected(seed)
    neutral = torch.cat(prompts(12, TOKENS, DIMENSION, seed + 1)).double()
    targets = torch.cat([pair.subject_rows()[1] for pair in found.pairs]).double()
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
        bounds.append(float(found.distance_bound(found.pairs[0].subject_rows()[0]).square().sum()))
        moved = found.eraser.apply_to_context(neutral) - neutral
        prices.append(float(norms(moved, found.gram).square().sum()))
    assert prices == sorted(prices)
    assert bounds[-1] >= bounds[0] * (1 - 1e-9)


@given(seeds)
def test_neutral_prompts_together_count_as_much_as_preserved_ones(seed: int) -> None:
    preserved, neutral = (prompts(count, TOKENS, DIMENSION, seed + count) for count in (2, 20))
    arguments = stack(DIMENSION, seed=seed), pairs(2, TOKENS, DIMENSION, seed)
    found = project(*arguments, preserved, neutral=neutral)
    # Twice the same prompts in one group are the same group.
    same = project(*arguments, preserved * 2, neutral=neutral)
    swapped = project(*arguments, neutral, neutral=preserved)
    for other in (same, swapped):
        torch.testing.assert_close(found.eraser.matrix(), other.eraser.matrix(), rtol=0, atol=1e-8)


@given(seeds)
def test_contrasts_say_what_goes(seed: int) -> None:
    arguments = stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed), prompts(12, TOKENS, DIMENSION, seed + 1)
    contrasts = [Contrast.of(pair) for pair in pairs(2, TOKENS, DIMENSION, seed + 2)]
    found = project(*arguments, ProjectionSettings(energy=1.0), contrasts=contrasts)
    matrix = found.eraser.matrix()
    for contrast in contrasts:
        concept, other = (side.double() @ matrix.T for side in (contrast.concept, contrast.others))
        torch.testing.assert_close(concept, other, rtol=0, atol=1e-7)
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
    size = torch.linalg.matrix_norm(matrix)
    assert (
        torch.linalg.matrix_norm(replaced.readers.T @ matrix)
        < ROUNDING * torch.linalg.matrix_norm(replaced.readers) * size
    )
    moved, wanted = (concept - others).double() @ matrix.T, (target - others).double() @ without.T
    torch.testing.assert_close(
        moved, wanted, rtol=0, atol=float(1e-8 * size * torch.linalg.matrix_norm(target.double()))
    )
    assert replaced.eraser.rank == dropped.eraser.rank


@given(seeds)
def test_only_concepts_with_targets_get_one(seed: int) -> None:
    """Of two concepts, the one without a target comes out as the other words do."""
    arguments = stack(DIMENSION, seed=seed), pairs(1, TOKENS, DIMENSION, seed), prompts(12, TOKENS, DIMENSION, seed + 1)
    one, two, target = (pair.concept for pair in pairs(3, TOKENS, DIMENSION, seed + 2))
    others = prompts(1, TOKENS, DIMENSION, seed + 3)[0]
    contrasts = [Contrast("one", one, others, target), Contrast("two", two, others)]
    matrix = project(*arguments, ProjectionSettings(energy=1.0), contrasts=contrasts).eraser.matrix()
    size = float(torch.linalg.matrix_norm(matrix) * torch.linalg.matrix_norm(two.double()))
    torch.testing.assert_close(
        (two - others).double() @ matrix.T, torch.zeros_like(two).double(), rtol=0, atol=1e-8 * size
    )
    assert torch.linalg.matrix_norm((one - others).double() @ matrix.T) > 1e-2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"robustness": 0.0}, "robustness is 0.0"),
        ({"robustness": float("nan")}, "robustness is nan"),
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
