"""Equal tokens enter once, with a weight, and change nothing."""

from __future__ import annotations

import pytest
import torch
from random_examples import pairs, prompts, relative_change_error, stack
from rece_pack.rece_ops import ConceptPair, RECESettings, erase
from rece_pack.rece_ops.linear.equal_tokens import equal_tokens
from rece_pack.rece_ops.linear.moments import PreservedMoment, pair_moments

from benchmarks.erase_benchmark.literal import literal_erase

CPU = torch.device("cpu")


def padded(count: int, dimension: int, words: int = 3, padding: int = 9) -> list[ConceptPair]:
    """Concepts whose prompts end in equal tokens, and begin with one that all share."""
    rows = torch.arange(words + padding).clamp(max=words)
    texts = [tokens[rows] for tokens in prompts(count + 1, words + 1, dimension)]
    for tokens in texts[1:]:
        tokens[0] = texts[0][0]
    return [ConceptPair(str(i), tokens, texts[-1], 1, 0, 0.5 + i) for i, tokens in enumerate(texts[:-1])]


def test_groups_are_those_of_equal_numbers() -> None:
    first = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, -0.0], [1.0, 2.5, 0.0]])
    second = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 1e-7]], dtype=torch.float64)
    equal = equal_tokens([first, second])
    (a, b, c), (d, e) = (group.tolist() for group in equal.group)
    assert equal.count == 3
    assert a == b == d
    assert len({a, c, e}) == 3
    assert [mask.tolist() for mask in equal.first()] == [[True, False, True], [False, True]]


def test_tokens_that_differ_only_where_nobody_looked_first_are_different() -> None:
    tokens = torch.ones(2, 640)
    tokens[1, 639] = 1 + 2.0**-23
    assert equal_tokens([tokens]).count == 2


def test_what_agrees_where_it_is_looked_at_is_told_apart_over_prompts_and_dtypes() -> None:
    tokens = torch.ones(4, 640)
    tokens[1:3, 639] = 1 + 2.0**-23
    other = torch.ones(1, 640)
    other[0, 638] = 1 - 2.0**-24
    equal = equal_tokens([tokens, tokens[1:].double(), other])
    (a, b, c, d), (e, f, g), (h,) = (group.tolist() for group in equal.group)
    assert equal.count == 3
    assert a == d == g
    assert b == c == e == f
    assert len({a, b, h}) == 3


def test_parts_of_prompts_have_groups_of_their_own() -> None:
    first, second = torch.tensor([[1.0], [2.0], [3.0], [2.0]]), torch.tensor([[3.0], [1.0]])
    part = equal_tokens([first, second]).within([(0, slice(1, 4)), (1, slice(0, 1)), (0, slice(0, 0))])
    (a, b, c), (d,), nothing = (group.tolist() for group in part.group)
    assert (part.count, nothing) == (2, [])
    assert a == c
    assert b == d


@pytest.mark.parametrize(("count", "dimension"), [(1, 64), (3, 64), (5, 16)])
def test_the_erasure_is_that_of_the_papers_equations_token_by_token(count: int, dimension: int) -> None:
    """Few tokens, and more than dimensions."""
    concepts, weights = padded(count, dimension), stack(dimension)
    kept = [concepts[0].target]
    erasure = erase(weights, concepts, kept, RECESettings(epochs=2))
    history, _ = literal_erase(weights, concepts, kept, RECESettings(epochs=2))
    for name, weight in weights.items():
        # As for the reference vectors.
        assert relative_change_error(erasure.eraser.apply_to_weight(weight), history[-1][name], weight) < 1e-7


def test_padding_costs_one_row() -> None:
    first, every = pair_moments(padded(3, 64), 1.0, CPU)
    # A token that all share, two words and one padding each; the first edit leaves the shared one out.
    assert every.concepts.shape == (1 + 3 * 3, 64)
    assert first.concepts.shape == (3 * 3, 64)
    kept = PreservedMoment.of_prompts([pair.concept for pair in padded(3, 64)], 64, CPU)
    assert kept.rows is not None
    assert len(kept.rows) == 1 + 3 * 3


def test_more_different_tokens_than_dimensions_are_folded() -> None:
    assert pair_moments(pairs(9, 7, 24), 1.0, CPU)[1].tokens is None
    assert pair_moments(padded(9, 24), 1.0, CPU)[1].tokens is None
