"""The derivation from weights alone: what it finds, and that it is RECE's where a T made the weights."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from random_examples import pairs, prompts, stack

from rece_ops import InputError, RECESettings, WeightMoments, derive_embedding, erase, regenerate
from rece_ops.measures.outputs import concept_regenerations

DIMENSION, TOKENS = 24, 4
seeds = st.integers(0, 10_000)


@given(seeds, st.sampled_from([1e-3, 0.1, 1.0]))
def test_it_is_the_derivation_of_the_eraser_that_made_the_weights(seed: int, regularization: float) -> None:
    weights, concepts = stack(DIMENSION, seed=seed), pairs(2, TOKENS, DIMENSION, seed)
    erasure = erase(weights, concepts, [], RECESettings(epochs=2, regularization=regularization))
    edited = {name: erasure.eraser.apply_to_weight(weight) for name, weight in weights.items()}
    pair = concepts[0]
    expected = derive_embedding(erasure.gram, erasure.eraser, pair.concept, regularization)
    measured = concept_regenerations(erasure, erasure.eraser)[0]
    from_weights, from_eraser = (
        regenerate(moments, pair.concept, pair.target, regularization)
        for moments in (
            WeightMoments.of_weights(weights, edited),
            WeightMoments.of_eraser(erasure.gram, erasure.eraser),
        )
    )
    for found in (from_weights, from_eraser):
        # Condition numbers reach 1e6 with the smallest regularization.
        torch.testing.assert_close(found.tokens, expected, rtol=1e-7, atol=1e-7)
        assert found.regeneration == pytest.approx(measured, abs=1e-6)


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
    torch.testing.assert_close(found.tokens, concept, rtol=0, atol=1e-6)
    assert found.regeneration == pytest.approx(1, abs=1e-6)


def test_two_models_that_differ_in_their_projections_are_refused() -> None:
    weights = stack(DIMENSION)
    with pytest.raises(InputError, match="different projections"):
        WeightMoments.of_weights(weights, stack(DIMENSION, layers=3))
    with pytest.raises(InputError, match="different projections"):
        WeightMoments.of_weights({}, {})
    other = {**weights, "layer1": weights["layer1"][:5]}
    with pytest.raises(InputError, match=r"'layer1' is \[27, 24\] in the original model and \[5, 24\]"):
        WeightMoments.of_weights(weights, other)


def test_a_concept_of_another_dimension_is_refused() -> None:
    weights = stack(DIMENSION)
    concept, target = prompts(2, TOKENS, DIMENSION + 1, 3)
    with pytest.raises(InputError, match="dimension 24, but the concepts have dimension 25"):
        regenerate(WeightMoments.of_weights(weights, weights), concept, target, 0.1)
