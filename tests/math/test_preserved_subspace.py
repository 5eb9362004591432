"""Exact preservation, for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import hypothesis.strategies as st
import pytest
import torch
from bounds import assert_same_up_to, orthogonal, stages
from hypothesis import given
from random_examples import pairs, prompts, stack
from rece_pack.rece_ops import ConceptPair, Eraser, InputError, ProjectionSettings, RECESettings, erase, project
from rece_pack.rece_ops.linear.preserved_subspace import LEFT_OUT, PreservedSubspace
from torch import Tensor

DIMENSION, TOKENS = 32, 5
seeds = st.integers(0, 10_000)

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


# Solves and products one after the other.
STAGES = {"UCE": 1, "RECE": 5, "anchored": 5, "proj": 4}
METHODS = {"UCE": rece(epochs=0), "RECE": rece(epochs=2), "anchored": rece(epochs=2, anchored=True), "proj": projection}


@pytest.mark.parametrize("method", METHODS)
@given(seeds, st.sampled_from([1, 12]))
def test_what_is_preserved_exactly_does_not_move(method: str, seed: int, count: int) -> None:
    """With few concepts, whose tokens are kept, and with more tokens than dimensions, which are folded."""
    exactly = {f"prompt {i}": tokens for i, tokens in enumerate(prompts(2, TOKENS, DIMENSION, seed + 2))}
    concepts = pairs(count, TOKENS, DIMENSION, seed)
    eraser = METHODS[method](concepts, exactly, seed)
    # T − I ends in a projector out of the span, which a solve comes after: what is left of tokens is rounding.
    for tokens in exactly.values():
        size = float(tokens.norm() * eraser.left.norm() * eraser.right.norm())
        rounding = size * (orthogonal(2 * TOKENS, DIMENSION) + stages(DIMENSION, STAGES[method]))
        assert_same_up_to(eraser.apply_to_context(tokens), tokens, rounding)
    moved = eraser.apply_to_context(concepts[0].concept) - concepts[0].concept
    assert torch.linalg.matrix_norm(moved) > 0.01  # far above any rounding: the concept is erased


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
    rounding = orthogonal(*rows.shape)
    assert span.outside(rows).square().sum() <= (1e-6 + rounding) * rows.square().sum()
    assert 3 <= span.basis.shape[1] <= 6
    assert_same_up_to(span.basis.T @ span.basis, torch.eye(span.basis.shape[1]), 2 * rounding * DIMENSION**0.5)


@pytest.mark.parametrize(("share", "kept"), [(0.9e-6, 4), (1.1e-6, 5)])
def test_a_direction_with_a_millionth_of_the_energy_is_where_it_begins(share: float, kept: int) -> None:
    """The figure that README and docs give: a thousandth of the norm."""
    assert LEFT_OUT == 1e-6
    rows = torch.eye(5, DIMENSION, dtype=torch.float64)
    rows[4] *= (share * 4) ** 0.5
    assert PreservedSubspace({"prompt": rows}, rows.device).basis.shape[1] == kept


def test_the_message_gives_the_share_of_the_prompt_that_is_in_the_way() -> None:
    """Three quarters of one prompt's energy lie in the concept's direction, none of the other's."""
    concept = torch.zeros(1, DIMENSION, dtype=torch.float64)
    concept[0, 0] = 2.0
    near, far = torch.zeros(1, DIMENSION, dtype=torch.float64), torch.zeros(2, DIMENSION, dtype=torch.float64)
    near[0, :2] = torch.tensor([3.0, 1.0]) ** 0.5
    far[0, 1], far[1, 2] = 1.0, 5.0
    span = PreservedSubspace({"far": far, "": near}, concept.device)
    with pytest.raises(
        InputError, match=r"^A hat lies in the span .*: 75% of '\(empty prompt\)' lies in the directions"
    ):
        span.check_outside("A hat", concept)
    # More than enough of it lies outside.
    span.check_outside("A hat", torch.ones(1, DIMENSION, dtype=torch.float64))


@pytest.mark.parametrize(("share", "refused"), [(0.9e-4, True), (1.1e-4, False)])
def test_a_concept_needs_a_ten_thousandth_of_its_energy_outside(share: float, refused: bool) -> None:
    inside = torch.eye(1, DIMENSION, dtype=torch.float64)
    concept = inside * (1 - share) ** 0.5
    concept[0, 1] = share**0.5
    span = PreservedSubspace({"prompt": inside}, concept.device)
    if refused:
        with pytest.raises(InputError, match=r"100% of 'prompt'"):
            span.check_outside("A hat", 7 * concept)
    else:
        span.check_outside("A hat", 7 * concept)
