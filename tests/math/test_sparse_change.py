"""A change of single numbers in named weights as a part of an eraser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rece_pack.rece_ops import Eraser, EraserFileError, EraserSet, InputError, LowRank, SparseChange, SparseNumbers
from rece_pack.rece_ops import WeightChange as LowRankChange
from rece_pack.rece_ops.formats.eraser_file import write_eraser_file
from rece_pack.rece_ops.formats.parts import StoredPart
from rece_pack.rece_ops.provenance import Provenance
from torch import Tensor


def numbers(
    places: list[int], removed: list[float], added: list[float], shape: tuple[int, int] = (3, 4)
) -> SparseNumbers:
    return SparseNumbers(shape, torch.tensor(places, dtype=torch.int32), torch.tensor(removed), torch.tensor(added))


def pruned(*places: int) -> SparseNumbers:
    return numbers(list(places), [1.0] * len(places), [0.0] * len(places))


def after(change: SparseChange, weight: Tensor, key: str = "w") -> Tensor:
    return weight + change.of_weight(key, weight)


# Powers of two and small whole numbers, which every sum and product here keeps exactly.
WEIGHT = torch.arange(-6.0, 6.0).reshape(3, 4)
FIRST = SparseChange({"w": numbers([1, 5, 11], [1.0, 0.5, 0.0], [0.0, 0.25, 4.0])})


def test_it_takes_away_and_puts_in_at_its_places_only() -> None:
    found = after(FIRST, WEIGHT).flatten()
    expected = WEIGHT.flatten().clone()
    expected[1], expected[5], expected[11] = 0.0, -0.25, 9.0
    assert torch.equal(found, expected)


def test_pruned_is_zero_whatever_stood_there() -> None:
    once = SparseChange({"w": pruned(0, 7)})
    for weight in (WEIGHT, WEIGHT.half(), 1.1 * WEIGHT.double()):
        found = after(once @ once, weight).flatten()
        assert found[0] == 0
        assert found[7] == 0
        assert torch.equal(found[1:7], weight.flatten()[1:7].to(found))


def test_strength_scales_the_change() -> None:
    assert torch.equal(FIRST.scaled(0.0).of_weight("w", WEIGHT), torch.zeros(3, 4))
    assert torch.equal(FIRST.scaled(0.5).of_weight("w", WEIGHT), FIRST.of_weight("w", WEIGHT) / 2)


def test_two_changes_come_one_after_the_other() -> None:
    second = SparseChange({"w": numbers([0, 5, 11], [1.0, 2.0, 1.0], [0.0, 1.0, -3.0]), "other": pruned(2)})
    both = FIRST @ second
    assert list(both.changes) == ["w", "other"]
    assert both.changes["w"].places.tolist() == [0, 1, 5, 11]
    assert both.changes["w"].places.dtype == torch.int32
    assert torch.equal(after(both, WEIGHT), after(second, after(FIRST, WEIGHT)))
    assert not torch.equal(after(both, WEIGHT), after(second @ FIRST, WEIGHT)), "the order counts"


def test_it_is_saved_and_loaded_in_the_order_of_the_parts(tmp_path: Path) -> None:
    low_rank = LowRankChange({"w": LowRank(torch.ones(3, 1), torch.ones(1, 4))})
    parts = {"weights": low_rank, "pruned": FIRST, "text": Eraser.identity(5)}
    EraserSet(parts, {"method": "pruned"}).save(tmp_path / "e.safetensors")
    loaded = EraserSet.load(tmp_path / "e.safetensors")
    assert list(loaded) == ["weights", "pruned", "text"]
    assert loaded.changes_weights
    (change,) = loaded.sparse_changes.values()
    assert change.changes["w"].shape == (3, 4)
    assert all(torch.equal(*pair) for pair in zip(change.changes["w"][1:], FIRST.changes["w"][1:], strict=True))
    assert change.describe() == "3 numbers of 1 weight"


def test_erasers_with_it_are_scaled_and_combined() -> None:
    one, other = EraserSet({"pruned": FIRST}), EraserSet({"pruned": SparseChange({"w": pruned(1, 2)})})
    (both,) = one.scaled(0.5).combined(other, {}).sparse_changes.values()
    assert torch.equal(after(both, WEIGHT), after(other.sparse_changes["pruned"], after(FIRST.scaled(0.5), WEIGHT)))
    resized = EraserSet({"pruned": SparseChange({"w": numbers([1], [1.0], [0.0], (4, 3))})})
    with pytest.raises(InputError, match="has 3×4 numbers in one ERASER and 4×3 in the other"):
        one.combined(resized, {})


def test_it_is_combined_with_a_text_transform_in_either_order(tmp_path: Path) -> None:
    text, numbers_alone = EraserSet({"text": Eraser(2 * torch.eye(3))}), EraserSet({"pruned": FIRST})
    for one, other in ((text, numbers_alone), (numbers_alone, text)):
        both = EraserSet.load(one.combined(other, {}).save(tmp_path / "both.safetensors"))
        assert list(both) == [*one, *other]
        assert torch.equal(both["text"].matrix(), text["text"].matrix())
        assert torch.equal(after(both.sparse_changes["pruned"], WEIGHT), after(FIRST, WEIGHT))


def test_a_weight_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="it belongs to another model"):
        FIRST.of_weight("w", WEIGHT.T)


WRONG: dict[str, Any] = {
    "out of range": numbers([12], [1.0], [0.0]),
    "below zero": numbers([-1], [1.0], [0.0]),
    "twice": numbers([1, 1], [1.0, 1.0], [0.0, 0.0]),
    "no order": numbers([2, 1], [1.0, 1.0], [0.0, 0.0]),
    "no number": numbers([], [], []),
    "not finite": numbers([1], [float("nan")], [0.0]),
    "infinite": numbers([1], [1.0], [float("inf")]),
    "too few": numbers([1, 2], [1.0], [0.0, 0.0]),
    "no shape": numbers([0], [1.0], [0.0], (0, 0)),
    "too large": numbers([0], [1.0], [0.0], (2**16, 2**15)),
    "two dtypes": numbers([1], [1.0], [0.0])._replace(added=torch.zeros(1, dtype=torch.float64)),
    "long places": numbers([1], [1.0], [0.0])._replace(places=torch.ones(1, dtype=torch.int64)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_change_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        SparseChange({"w": WRONG[name]})


def test_nothing_is_no_change() -> None:
    with pytest.raises(InputError):
        SparseChange({})


def stored(**changed: Tensor | None) -> dict[str, Tensor]:
    tensors = {**FIRST.stored().tensors, **{f"w/{name}": tensor for name, tensor in changed.items()}}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (stored(added=None), "is incomplete: a weight lacks"),
        (stored(places=torch.tensor([1.0, 5.0, 11.0])), "not int32"),
        (stored(added=torch.ones(3, dtype=torch.int32)), "not floats"),
        (stored(shape=torch.tensor([3, 4, 1], dtype=torch.int32)), "do not fit together"),
        (stored(places=torch.tensor([1, 5], dtype=torch.int32)), "do not fit together"),
        (stored(removed=torch.ones(3, dtype=torch.float64)), "do not fit together"),
        (stored(more=torch.ones(3)), "holds a tensor that no change of weights has"),
        (stored(places=torch.tensor([1, 5, 12], dtype=torch.int32)), "out of range or out of order"),
        (stored(places=torch.tensor([5, 1, 11], dtype=torch.int32)), "out of range or out of order"),
        (stored(shape=torch.tensor([-3, -4], dtype=torch.int32)), "a size that no weight has"),
        (stored(added=torch.tensor([0.0, float("nan"), 0.0])), "NaN"),
    ],
)
def test_a_file_with_a_spoiled_one_is_refused(tmp_path: Path, tensors: dict[str, Tensor], message: str) -> None:
    path = write_eraser_file(tmp_path / "e.safetensors", {"p": StoredPart("sparse change", tensors)}, Provenance())
    with pytest.raises(EraserFileError, match=message):
        EraserSet.load(path)
