"""Second moments of token pairs: folded or not, mapped and joined, they are those of the tokens one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from bounds import Rounded, assert_within
from random_examples import pairs, prompts
from rece_pack.rece_ops import ConceptPair
from rece_pack.rece_ops.linear.moments import PairMoments, PreservedMoment, pair_moments

DIMENSION, TOKENS = 48, 6
CPU = torch.device("cpu")
# Few tokens; more than dimensions, mapped to one target and to as many as there are.
REGIMES = [(3, 3), (20, 1), (20, 20)]


def some(count: int, targets: int, seed: int = 1) -> list[ConceptPair]:
    """Concepts of different weights, which begin in different places of the same targets."""
    found = pairs(count, TOKENS, DIMENSION, seed, targets=targets)
    return [replace(pair, scale=0.5 + number) for number, pair in enumerate(found)]


def tokens_of(concepts: Sequence[ConceptPair], subject: bool) -> tuple[Rounded, Rounded]:
    """√η c and √η c* of every pair of tokens, as rows."""
    sides = [pair.subject_tokens() if subject else pair.all_tokens() for pair in concepts]
    rows = [
        torch.cat([pair.scale**0.5 * both[side] for pair, both in zip(concepts, sides, strict=True)]) for side in (0, 1)
    ]
    return Rounded(rows[0]), Rounded(rows[1])


def assert_moments(found: PairMoments, concepts: Rounded, targets: Rounded) -> None:
    """C and X − C are those of the rows: both sides sum as many products, and round roots of weights and back."""
    second, cross = concepts.T @ concepts, targets.T @ concepts
    for matrix, expected in ((found.second_moment(), second), (found.displacement(), cross + second * -1.0)):
        assert_within(matrix, Rounded(expected.value, 4 * expected.error))


@pytest.mark.parametrize(("count", "targets"), REGIMES)
def test_they_are_those_of_the_tokens(count: int, targets: int) -> None:
    concepts = some(count, targets)
    for found, subject in zip(pair_moments(concepts, 1.0, CPU), (True, False), strict=True):
        assert (found.tokens is None) == (count == 20)
        assert (found.targets is None) == (targets == 20)
        assert_moments(found, *tokens_of(concepts, subject))


@pytest.mark.parametrize(("count", "targets"), REGIMES)
def test_a_derivation_moves_the_concepts_and_leaves_the_targets(count: int, targets: int) -> None:
    concepts = some(count, targets)
    linear = torch.randn(DIMENSION, DIMENSION, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    every = pair_moments(concepts, 1.0, CPU)[1]
    found = every.mapped(linear if every.tokens is None else every.tokens @ linear)
    rows, intended = tokens_of(concepts, subject=False)
    assert_moments(found, rows @ Rounded(linear), intended)


@pytest.mark.parametrize("second", REGIMES)
@pytest.mark.parametrize("first", REGIMES)
def test_joined_they_are_those_of_both(first: tuple[int, int], second: tuple[int, int]) -> None:
    both = some(*first), some(*second, seed=5)
    joined = pair_moments(both[0], 1.0, CPU)[1].joined(pair_moments(both[1], 1.0, CPU)[1])
    assert_moments(joined, *tokens_of([*both[0], *both[1]], subject=False))


@pytest.mark.parametrize("count", [2, 20])
def test_what_is_preserved_is_added(count: int) -> None:
    kept = prompts(count, TOKENS, DIMENSION)
    found = PreservedMoment.of_prompts(kept, DIMENSION, CPU)
    assert (found.rows is None) == (count == 20)
    rows, start = Rounded(torch.cat(kept)), torch.eye(DIMENSION).double()
    expected = Rounded(start) + (rows.T @ rows) * 0.3
    assert_within(found.add_to(start.clone(), 0.3), Rounded(expected.value, 4 * expected.error))
