"""A low-rank change of named weights as a part of an eraser."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bounds import product
from rece_pack.rece_ops import Eraser, EraserFileError, EraserSet, InputError, LowRank, WeightChange
from torch import Tensor


def low_rank(rows: int, rank: int, columns: int, seed: int = 0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator))


def assert_product(found: Tensor, up: Tensor, down: Tensor) -> None:
    exact = up.double() @ down.double()
    # The exact product itself is computed in float64.
    assert bool(((found - exact).abs() <= product(up, down, torch.float32) + product(up, down, torch.float64)).all())


LINEAR, CONV = low_rank(6, 2, 5), low_rank(4, 3, 3 * 9, seed=1)
CHANGE = WeightChange({"block.0.weight": LINEAR, "conv.weight": CONV})


def test_a_change_has_the_shape_of_its_weight() -> None:
    found = CHANGE.of_weight("conv.weight", torch.zeros(4, 3, 3, 3))
    assert found.shape == (4, 3, 3, 3)
    assert_product(found.reshape(4, -1), CONV.up, CONV.down)


def test_strength_scales_it_linearly_and_zero_is_nothing() -> None:
    weight = torch.zeros(6, 5)
    assert torch.equal(CHANGE.scaled(0.0).of_weight("block.0.weight", weight), weight)
    # Powers of two round nothing.
    assert torch.equal(
        CHANGE.scaled(0.5).of_weight("block.0.weight", weight), CHANGE.of_weight("block.0.weight", weight) / 2
    )


def test_two_changes_add_up_weight_by_weight() -> None:
    other = low_rank(6, 1, 5, seed=2)
    both = CHANGE @ WeightChange({"block.0.weight": other, "only.weight": LINEAR})
    assert set(both.changes) == {"block.0.weight", "conv.weight", "only.weight"}
    joined = both.changes["block.0.weight"]
    assert joined.up.shape == (6, 3)
    found = both.of_weight("block.0.weight", torch.zeros(6, 5))
    assert_product(found, torch.cat([LINEAR.up, other.up], dim=1), torch.cat([LINEAR.down, other.down]))


def test_it_is_saved_and_loaded_beside_a_transform(tmp_path: Path) -> None:
    transform = Eraser(*low_rank(7, 2, 7))
    EraserSet({"text": transform, "model": CHANGE}, {"method": "hardened"}).save(tmp_path / "e.safetensors")
    loaded = EraserSet.load(tmp_path / "e.safetensors")
    assert list(loaded.transforms) == ["text"]
    assert torch.equal(loaded.transforms["text"].matrix(), transform.matrix())
    (change,) = loaded.weight_changes.values()
    for key, factors in CHANGE.changes.items():
        assert all(torch.equal(*pair) for pair in zip(change.changes[key], factors, strict=True))
    assert loaded["model"].describe() == "2 weights, rank 3 at most"


def test_a_file_with_changes_of_weights_is_no_single_transform(tmp_path: Path) -> None:
    EraserSet({"model": CHANGE}).save(tmp_path / "e.safetensors")
    with pytest.raises(EraserFileError, match="holds a weight change and no text transform"):
        Eraser.load(tmp_path / "e.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"w": LowRank(torch.ones(2, 3), torch.ones(2, 3))},
        {"w": LowRank(torch.ones(2, 1), torch.ones(1, 3).double())},
        {"w": LowRank(torch.full((2, 1), float("nan")), torch.ones(1, 3))},
        {"w": LowRank(torch.full((2, 1), 1e30), torch.full((1, 3), 1e30))},
    ],
)
def test_what_makes_no_change_is_refused(changes: dict[str, LowRank]) -> None:
    with pytest.raises(InputError):
        WeightChange(changes)


def test_a_weight_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="it belongs to another model"):
        CHANGE.of_weight("conv.weight", torch.zeros(4, 3))


def test_a_transform_and_a_change_under_one_name_are_not_combined() -> None:
    one, other = EraserSet({"part": CHANGE}), EraserSet({"part": Eraser.identity(5)})
    with pytest.raises(InputError):
        one.combined(other, {})
