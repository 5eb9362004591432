"""Exact preservation, for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from random_examples import pairs, prompts, stack
from torch import Tensor

from rece_ops import ConceptPair, Eraser, InputError, ProjectionSettings, RECESettings, erase, project
from rece_ops.linear.preserved_subspace import LEFT_OUT, PreservedSubspace

DIMENSION, TOKENS = 32, 5
seeds = st.integers(0, 10_000)
# Condition numbers up to 1e6 or so on float64.
ROUNDING = 1e-8

Method = Callable[[list[ConceptPair], Mapping[str, Tensor], int], Eraser]


def rece(**values: object) -> Method:
    def run(concepts: list[ConceptPair], exactly: Mapping[str, Tensor], seed: int) -> Eraser:
        preserve = prompts(2, TOKENS, DIMENSION, seed + 1)
        settings = RECESettings(**values)
        return erase(stack(DIMENSION, seed=seed), concepts, preserve, settings, preserve_exactly=exactly).eraser

    return run


def projection(concepts: list[ConceptPair], exactly: Mapping[str, Tensor], seed: int) -> Eraser:
    preserve = prompts(12, TOKENS, DIMENSION, seed + 1)
    settings = ProjectionSettings(directions=1)
    return project(stack(DIMENSION, seed=seed), concepts, preserve, settings, preserve_exactly=exactly).eraser


METHODS = {"UCE": rece(epochs=0), "RECE": rece(epochs=2), "anchored": rece(epochs=2, anchored=True), "proj": projection}


@pytest.mark.parametrize("method", METHODS)
@given(seeds, st.sampled_from([1, 12]))
def test_what_is_preserved_exactly_does_not_move(method: str, seed: int, count: int) -> None:
    """With few concepts, whose tokens are kept, and with more tokens than dimensions, which are folded."""
    exactly = {f"prompt {i}": tokens for i, tokens in enumerate(prompts(2, TOKENS, DIMENSION, seed + 2))}
    concepts = pairs(count, TOKENS, DIMENSION, seed)
    eraser = METHODS[method](concepts, exactly, seed)
    for tokens in exactly.values():
        torch.testing.assert_close(eraser.apply_to_context(tokens), tokens, rtol=0, atol=ROUNDING)
    moved = eraser.apply_to_context(concepts[0].concept) - concepts[0].concept
    assert torch.linalg.matrix_norm(moved) > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_a_concept_inside_the_span_is_refused_with_the_prompt_in_its_way(method: str) -> None:
    concepts = pairs(1, TOKENS, DIMENSION, 0)
    (other,) = prompts(1, TOKENS, DIMENSION, 7)
    exactly = {"harmless": other, "the concept": concepts[0].concept, "its target": concepts[0].target}
    with pytest.raises(InputError, match=r"lies in the span of what is preserved exactly.*% of '(the concept|its tar)"):
        METHODS[method](concepts, exactly, 0)


@given(seeds, st.floats(1e-5, 1e-2))
def test_only_what_holds_next_to_no_energy_is_left_out(seed: int, small: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(6, DIMENSION, generator=generator, dtype=torch.float64)
    rows[3:] *= small
    span = PreservedSubspace({"prompt": rows}, rows.device)
    assert span.outside(rows).square().sum() <= LEFT_OUT * rows.square().sum()
    assert 3 <= span.basis.shape[1] <= 6
    torch.testing.assert_close(span.basis.T @ span.basis, torch.eye(span.basis.shape[1]).double(), rtol=0, atol=1e-12)
