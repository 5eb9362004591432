"""An erasure as a LoRA of one projection."""

from __future__ import annotations

import pytest
import torch
from bounds import Rounded, as_lora, assert_within, orthogonal, unit
from hypothesis import given
from hypothesis import strategies as st
from random_examples import pairs, stack
from rece_pack.rece_ops import Eraser, InputError, RECESettings, erase, lora_factors
from rece_pack.rece_ops.low_rank import nearest_of_rank


@pytest.mark.parametrize(("concepts", "dimension"), [(1, 64), (9, 24)], ids=["thin", "dense"])
@pytest.mark.parametrize("out", [10, 64, 100])
def test_the_lora_is_the_erasure(concepts: int, dimension: int, out: int) -> None:
    eraser = erase(stack(dimension), pairs(concepts, 5, dimension), (), RECESettings(epochs=1)).eraser
    weight = torch.randn(out, dimension, generator=torch.Generator().manual_seed(2))
    up, down = lora_factors(weight, eraser)
    assert_within((up.double() @ down.double()), as_lora(up, down, Rounded(weight.double() @ eraser.difference())))
    assert up.shape[1] == down.shape[0] <= min(out, dimension)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_what_counts_as_a_direction_does_not_depend_on_the_size_of_the_weight(scale: float) -> None:
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((24, 4), (4, 24)))
    weight = scale * torch.randn(30, 24, generator=generator, dtype=torch.float64)
    assert lora_factors(weight, Eraser(left, right))[0].shape == (30, 4)


def test_a_smaller_rank_is_the_closest_of_that_rank() -> None:
    eraser = erase(stack(64), pairs(1, 5, 64), (), RECESettings(epochs=1)).eraser
    weight = torch.randn(30, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    up, down = lora_factors(weight, eraser, max_rank=3)
    change = weight @ eraser.difference()
    found = torch.linalg.svdvals(change - up.double() @ down.double())[0]
    sigma = torch.linalg.svdvals(change)
    # Singular values move by no more than the norm of what is added (Weyl): here, the rounding of the factors.
    rounding = 2.1 * unit(torch.float32) * float(up.norm() * down.norm())
    rounding += 8 * orthogonal(30, 64) * float(weight.norm() * eraser.left.norm() * eraser.right.norm())
    assert abs(float(found - sigma[3])) <= rounding < 1e-3 * float(sigma[3])
    with pytest.raises(InputError, match="shape"):
        lora_factors(torch.zeros(3, 5), eraser)


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), rank=st.integers(0, 6), seed=st.integers(0, 9))
def test_nothing_of_that_rank_is_nearer(rows: int, columns: int, rank: int, seed: int) -> None:
    """Eckart–Young: what is left out has the singular values after the first `rank`."""
    change = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    up, down = nearest_of_rank(change, rank)
    size = min(rows, columns)
    assert up.shape[1] == down.shape[0] <= (min(rank, size) if rank else size)
    sigma = torch.linalg.svdvals(change.double())
    left_out = float(sigma[rank:].norm()) if rank else 0.0
    found = float((change.double() - up.double() @ down.double()).norm())
    # Rounding of the factors; directions below what float32 holds; eigenvalues of C·Cᵀ as far as float64 knows them.
    rounding = 2.1 * unit(torch.float32) * float(up.norm() * down.norm())
    rounding += (torch.finfo(torch.float32).eps / 8 + (2 * size * unit(torch.float64)) ** 0.5) * size * float(sigma[0])
    assert abs(found - left_out) <= rounding
    # Balanced, so that neither factor overflows in a smaller dtype before the other.
    assert up.norm() == pytest.approx(float(down.norm()), rel=1e-5)  # no bound: they are equal without rounding
