"""What sets concepts apart: gathered one contrast at a time, the same as all at once, and nothing kept of any."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from bounds import assert_same_up_to, orthogonal, stages
from hypothesis import given
from random_examples import pairs, prompts, stack
from rece_pack.rece_ops import Contrast, Differences, InputError, gram_matrix
from rece_pack.rece_ops.linear.directions import metric_root
from torch import Tensor

DIMENSION, TOKENS = 16, 4
seeds = st.integers(0, 10_000)
COUNTS = st.sampled_from([1, 3, 9])  # of four rows each: nine are more than dimensions


def compared(seed: int, count: int, targets: bool) -> list[Contrast]:
    """Every second one has a target, if any have one."""
    return [
        Contrast(
            f"concept {number}",
            pair.concept,
            pair.target[: TOKENS - number % 2],
            prompts(1, TOKENS, DIMENSION, seed + number)[0] if targets and number % 2 == 0 else None,
            scale=1 + number,
        )
        for number, pair in enumerate(pairs(count, TOKENS, DIMENSION, seed))
    ]


def gathered(contrasts: list[Contrast], gram: Tensor) -> Differences:
    differences = Differences(gram)
    for contrast in contrasts:
        differences.add(contrast)
    return differences


def weighted(contrast: Contrast, root: Tensor) -> tuple[Tensor, Tensor | None]:
    """Lᵀ(c − o) and Lᵀ(r − o), both over the former's norm and times the root of the scale."""
    count = len(contrast.others)
    rows = (contrast.concept[:count] - contrast.others) @ root
    weight = contrast.scale**0.5 / rows.norm()
    if contrast.replacement is None:
        return rows * weight, None
    return rows * weight, (contrast.replacement[:count] - contrast.others) @ root * weight


@given(seeds, COUNTS, st.booleans())
def test_directions_and_moments_are_those_of_all_differences_at_once(seed: int, count: int, targets: bool) -> None:
    gram, contrasts = gram_matrix(stack(DIMENSION, seed=seed)), compared(seed, count, targets)
    root, differences = metric_root(gram), gathered(contrasts, gram)
    both = [weighted(contrast, root) for contrast in contrasts]
    rows = torch.cat([difference for difference, _ in both])
    vectors, shares = differences.main_directions(root)
    spread = float(torch.linalg.cond(gram))
    rounding = (orthogonal(len(rows), DIMENSION) + stages(DIMENSION, 3)) * spread
    energies = torch.linalg.svdvals(rows).square()
    known = min(len(energies), len(shares))
    assert_same_up_to(shares[:known], energies[:known] / energies.sum(), rounding)
    assert_same_up_to(vectors * shares.clamp(min=0) @ vectors.T, rows.T @ rows / energies.sum(), 4 * rounding)

    mixed = torch.randn(DIMENSION, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    moment, cross = differences.coordinates(root, mixed)
    size = float(rows.norm() * mixed.norm()) ** 2
    assert_same_up_to(moment, (rows @ mixed).T @ (rows @ mixed), rounding * size)
    if not targets:
        assert cross is None
        return
    expected = sum((difference @ mixed).T @ towards for difference, towards in both if towards is not None)
    longest = max(float(towards.norm()) for _, towards in both if towards is not None)
    assert_same_up_to(cross, expected, rounding * float(rows.norm() * mixed.norm()) * longest * count)


@pytest.mark.parametrize("count", [9, 60])
def test_nothing_is_kept_of_what_was_gathered(count: int) -> None:
    """Of 240 rows in 16 dimensions as of 36; only contrasts asked for by name stay."""
    differences = Differences(gram_matrix(stack(DIMENSION)), ["concept 1"])
    gone = []
    for contrast in compared(0, count, targets=True):
        fresh = replace(contrast, concept=contrast.concept.clone())
        differences.add(fresh)
        gone.append((fresh.name, weakref.ref(fresh.concept)))
    del contrast, fresh
    gc.collect()
    assert [name for name, tokens in gone if tokens() is not None] == ["concept 1"]
    assert list(differences.kept) == ["concept 1"]
    held = sum(
        tensor.numel() for rows, targets in differences._rows for tensor in (rows, targets) if tensor is not None
    )
    assert held <= 2 * DIMENSION**2


def test_a_question_does_not_end_the_gathering_of_few() -> None:
    gram, contrasts = gram_matrix(stack(DIMENSION)), compared(0, 3, targets=False)
    root, differences = metric_root(gram), gathered(contrasts[:2], gram)
    differences.main_directions(root)
    differences.add(contrasts[2])
    again = gathered(contrasts, gram).main_directions(root)[1]
    assert torch.equal(differences.main_directions(root)[1], again)


def test_what_does_not_fit_is_refused() -> None:
    differences = Differences(gram_matrix(stack(DIMENSION)))
    with pytest.raises(InputError, match="dimension 16, but the concepts have dimension 8"):
        differences.add(Contrast.of(pairs(1, TOKENS, 8)[0]))
    same = prompts(1, TOKENS, DIMENSION)[0]
    with pytest.raises(InputError, match="'same' and its target are the same"):
        differences.add(Contrast("same", same, same.clone()))
