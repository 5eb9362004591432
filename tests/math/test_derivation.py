"""The derivation from weights alone: what it finds, and that it is RECE's where a T made the weights."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from bounds import assert_same_up_to, solve, stages
from hypothesis import given
from random_examples import pairs, prompts, stack
from rece_pack.rece_ops import InputError, RECESettings, WeightMoments, derive_embedding, erase, regenerate
from rece_pack.rece_ops.measures.outputs import concept_regenerations, derivations_of

DIMENSION, TOKENS = 24, 4
seeds = st.integers(0, 10_000)


@given(seeds, st.sampled_from([1e-3, 0.1, 1.0]))
def test_it_is_the_derivation_of_the_eraser_that_made_the_weights(seed: int, regularization: float) -> None:
    weights, concepts = stack(DIMENSION, seed=seed), pairs(2, TOKENS, DIMENSION, seed)
    erasure = erase(weights, concepts, [], RECESettings(epochs=2, regularization=regularization))
    edited = {name: erasure.eraser.apply_to_weight(weight) for name, weight in weights.items()}
    pair = concepts[0]
    expected = derive_embedding(erasure.gram, erasure.eraser, pair.concept, regularization)
    measured = concept_regenerations(erasure, erasure.eraser, derivations_of(erasure))[0]
    from_weights, from_eraser = (
        regenerate(moments, pair.concept, pair.target, regularization)
        for moments in (
            WeightMoments.of_weights(weights, edited),
            WeightMoments.of_eraser(erasure.gram, erasure.eraser),
        )
    )
    # The moments from weights carry their own sums; the solve amplifies both.
    rounding = 2 * solve(DIMENSION, from_weights.condition) * float(expected.norm())
    gap = float((pair.concept - pair.target).norm())
    for found in (from_weights, from_eraser):
        assert_same_up_to(found.tokens, expected, rounding)
        # Energies are differences of numbers of the outputs' size, and roots of them (so √ of the rounding near zero).
        energy = stages(DIMENSION, 3) * (float(pair.concept.norm()) + float(found.tokens.norm())) ** 2 / gap**2
        spread = float(torch.linalg.cond(from_weights_gram(weights)))
        assert abs(found.regeneration - measured) <= (energy * spread) ** 0.5 + rounding / gap * spread**0.5


def from_weights_gram(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(weight.T @ weight for weight in weights.values())  # type: ignore[return-value]


@given(seeds)
def test_no_other_embedding_comes_closer(seed: int) -> None:
    original, edited = stack(DIMENSION, seed=seed), stack(DIMENSION, seed=seed + 1)
    (concept, target) = prompts(2, TOKENS, DIMENSION, seed)
    found = regenerate(WeightMoments.of_weights(original, edited), concept, target, 0.1).tokens

    def cost(tokens: torch.Tensor) -> float:
        outputs = sum((tokens @ edited[k].T - concept @ original[k].T).square().sum() for k in original)
        return float(outputs + 0.1 * tokens.square().sum())

    generator = torch.Generator().manual_seed(seed)
    for size in (1e-3, 1.0):
        step = size * torch.randn(found.shape, generator=generator, dtype=torch.float64)
        assert cost(found + step) > cost(found)


def test_unedited_weights_regenerate_fully() -> None:
    weights = stack(DIMENSION)
    concept, target = prompts(2, TOKENS, DIMENSION, 3)
    found = regenerate(WeightMoments.of_weights(weights, weights), concept, target, 1e-9)
    smallest = float(torch.linalg.eigvalsh(from_weights_gram(weights))[0])
    bias, rounding = 1e-9 / smallest, solve(DIMENSION, found.condition)
    assert_same_up_to(found.tokens, concept, (bias + 2 * rounding) * float(concept.norm()))
    assert 1 - (stages(DIMENSION, 3) * found.condition) ** 0.5 - found.condition * bias <= found.regeneration <= 1


def test_two_models_that_differ_in_their_projections_are_refused() -> None:
    weights = stack(DIMENSION)
    with pytest.raises(InputError, match="different weights"):
        WeightMoments.of_weights(weights, stack(DIMENSION, layers=3))
    with pytest.raises(InputError, match="different weights"):
        WeightMoments.of_weights({}, {})
    other = {**weights, "layer1": weights["layer1"][:5]}
    with pytest.raises(InputError, match=r"'layer1' is \[27, 24\] in the original model and \[5, 24\]"):
        WeightMoments.of_weights(weights, other)


def test_a_concept_of_another_dimension_is_refused() -> None:
    weights = stack(DIMENSION)
    concept, target = prompts(2, TOKENS, DIMENSION + 1, 3)
    with pytest.raises(InputError, match="dimension 24, but the concepts have dimension 25"):
        regenerate(WeightMoments.of_weights(weights, weights), concept, target, 0.1)
