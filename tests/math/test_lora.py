"""An erasure as a LoRA of one projection."""

from __future__ import annotations

import pytest
import torch
from random_examples import pairs, stack

from rece_ops import InputError, RECESettings, erase, lora_factors


@pytest.mark.parametrize(("concepts", "dimension"), [(1, 64), (9, 24)], ids=["thin", "dense"])
@pytest.mark.parametrize("out", [10, 64, 100])
def test_the_lora_is_the_erasure(concepts: int, dimension: int, out: int) -> None:
    eraser = erase(stack(dimension), pairs(concepts, 5, dimension), (), RECESettings(epochs=1)).eraser
    weight = torch.randn(out, dimension, generator=torch.Generator().manual_seed(2))
    up, down = lora_factors(weight, eraser)
    change = weight.double() @ eraser.difference()
    # Balanced factors, each rounded once to float32.
    assert ((up @ down).double() - change).norm() < 8 * torch.finfo(torch.float32).eps * change.norm()
    assert up.shape[1] == down.shape[0] <= min(out, dimension)


def test_a_smaller_rank_is_the_closest_of_that_rank() -> None:
    eraser = erase(stack(64), pairs(1, 5, 64), (), RECESettings(epochs=1)).eraser
    weight = torch.randn(30, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    up, down = lora_factors(weight, eraser, max_rank=3)
    change = weight @ eraser.difference()
    error = torch.linalg.svdvals(change - (up @ down).double())[0]
    assert float(error) == pytest.approx(float(torch.linalg.svdvals(change)[3]), rel=1e-5)
    with pytest.raises(InputError, match="shape"):
        lora_factors(torch.zeros(3, 5), eraser)
