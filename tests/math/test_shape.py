"""Where and when an erasure counts: products, words and files of shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rece_pack.rece_ops import ALWAYS, WHOLE, Eraser, EraserFileError, EraserSet, InputError, Schedule, Shape
from rece_pack.rece_ops.formats.tensor_file import open_tensors
from rece_pack.rece_ops.schedule import CURVES
from rece_pack.rece_ops.shape import KEYS, KEYS_AND_VALUES, OTHER, READER, VALUES
from safetensors.torch import load_file, save_file

NUMBERS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])
BLOCKS = st.dictionaries(st.sampled_from(["input", "output", "middle", "input 4", "input 5", "output 3"]), NUMBERS)
POINTS = [number / 16 for number in range(16)]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    starts = sorted(draw(st.sets(st.sampled_from(POINTS[1:]), max_size=4)))
    return Schedule(tuple((start, draw(NUMBERS)) for start in (0.0, *starts)))


SHAPES = st.builds(Shape, BLOCKS, NUMBERS, NUMBERS, NUMBERS, schedules())


@given(schedules(), schedules())
def test_two_schedules_are_their_product_at_every_point(one: Schedule, other: Schedule) -> None:
    both = one * other
    assert [both.at(point) for point in POINTS] == [one.at(point) * other.at(point) for point in POINTS]
    assert one * ALWAYS == one


@given(SHAPES, SHAPES)
def test_two_shapes_are_their_product_in_every_block(one: Shape, other: Shape) -> None:
    both = one * other
    for group, number in (("input", 4), ("input", 5), ("input", 6), ("output", 3), ("output", 4), ("middle", None)):
        assert both.of_block(group, number) == one.of_block(group, number) * other.of_block(group, number)
    for role in (KEYS, VALUES, OTHER):
        assert both.of_role(role) == one.of_role(role) * other.of_role(role)
    assert one * WHOLE == one == WHOLE * one


@given(SHAPES)
def test_a_shape_comes_back_from_its_text(shape: Shape) -> None:
    assert Shape.from_json(shape.as_json()) == shape
    assert "\n" not in shape.describe()


def test_shapes_that_say_the_same_are_equal() -> None:
    assert Shape({"input": 1.0, "output 3": 1.0}) == WHOLE
    assert Shape({"input": 0.5, "input 4": 0.5}) == Shape({"input": 0.5})
    assert Schedule(((0.0, 1.0), (0.5, 1.0), (1.0, 0.0))) == ALWAYS
    assert Schedule.between(0, 1) == ALWAYS


def test_a_range_counts_within_it_only() -> None:
    found = Schedule.between(0.25, 0.75)
    assert [found.at(point) for point in (0, 0.2, 0.25, 0.5, 0.74, 0.75, 1)] == [0, 0, 1, 1, 1, 0, 0]
    assert found.describe() == "25% to 75% of the sampling"


def test_curves_are_the_middles_of_a_straight_line() -> None:
    rising, falling = (Schedule.between(0.0, 0.5, curve) for curve in CURVES[1:])
    assert [strength for _, strength in rising.levels] == pytest.approx([*(0.05 + 0.1 * n for n in range(10)), 0.0])
    assert [strength for _, strength in falling.levels] == pytest.approx([*(0.95 - 0.1 * n for n in range(10)), 0.0])
    # Both together are as much as half of a steady one.
    assert sum(rising.at(point) for point in POINTS[:8]) + sum(
        falling.at(point) for point in POINTS[:8]
    ) == pytest.approx(8)


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 1), (0, 1.1), (float("nan"), 1)])
def test_a_range_that_is_none_is_refused(start: float, end: float) -> None:
    with pytest.raises(InputError, match="percent"):
        Schedule.between(start, end)


def test_a_layer_that_cannot_tell_keys_from_values_is_refused() -> None:
    assert Shape(keys=0.5, values=0.5).of_role(KEYS_AND_VALUES) == 0.5
    assert Shape(others=0.0).of_role(READER) == 1
    for shape, role in ((Shape(keys=0.0), KEYS_AND_VALUES), (Shape(keys=0.5, values=0.5), READER)):
        with pytest.raises(InputError, match="'keys' and 'values'"):
            shape.of_role(role)


def eraser(shape: Shape = WHOLE) -> EraserSet:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(8, 2, generator=generator), torch.randn(2, 8, generator=generator)
    return EraserSet({"text": Eraser(left, right)}, {"architecture": "SD1"}, shape=shape)


def test_a_file_keeps_the_shape_and_says_so_only_where_there_is_one(tmp_path: Path) -> None:
    shape = Shape({"input": 0.0, "output 3": 0.5}, keys=0.0, schedule=Schedule.between(0.5, 1.0, "rising"))
    loaded = EraserSet.load(eraser(shape).save(tmp_path / "shaped.safetensors"))
    assert loaded.shape == shape
    with pytest.raises(EraserFileError, match="only in a part"):
        Eraser.load(tmp_path / "shaped.safetensors")
    plain = eraser().save(tmp_path / "plain.safetensors")
    for path, version in ((plain, "2"), (tmp_path / "shaped.safetensors", "3")):
        with open_tensors(path) as file:
            # Packs that know no shapes read the one, and refuse the other instead of erasing everywhere.
            assert file.metadata["format_version"] == version
            assert ("shape" in file.metadata) == (version == "3")


GOOD = json.loads(WHOLE.as_json())
BAD_SHAPES: dict[str, Any] = {
    "nothing": None,
    "no JSON": "{",
    "a list": [],
    "another field": {**GOOD, "code": 1},
    "a field less": {"blocks": {}},
    "too long": {**GOOD, "blocks": {f"input {n}": 1 for n in range(9999)}},
    "too many blocks": {**GOOD, "blocks": {f"{g} {n}": 0.5 for n in range(300) for g in ("input", "output")}},
    "blocks of another kind": {**GOOD, "blocks": ["input"]},
    "a name that no block has": {**GOOD, "blocks": {"../input": 1}},
    "a line in a name": {**GOOD, "blocks": {"input\n4": 1}},
    "NaN": {**GOOD, "keys": float("nan")},
    "infinity": {**GOOD, "values": float("inf")},
    "a huge number": {**GOOD, "keys": 10**400},
    "a text": {**GOOD, "others": "1"},
    "a switch": {**GOOD, "keys": True},
    "a negative strength": {**GOOD, "blocks": {"input": -1}},
    "no schedule": {**GOOD, "schedule": []},
    "points in disorder": {**GOOD, "schedule": [[0, 1], [0.5, 0], [0.4, 1]]},
    "no beginning": {**GOOD, "schedule": [[0.5, 1]]},
    "a point beyond the end": {**GOOD, "schedule": [[0, 1], [1.5, 0]]},
    "a level of three": {**GOOD, "schedule": [[0, 1, 2]]},
    "too many levels": {**GOOD, "schedule": [[n / 1000, n % 2] for n in range(1000)]},
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_an_unsound_shape_in_a_file_is_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    path = eraser(Shape(keys=0.5)).save(tmp_path / "bad.safetensors")
    with open_tensors(path) as file:
        metadata = dict(file.metadata)
    told = BAD_SHAPES[case]
    metadata["shape"] = told if isinstance(told, str) else json.dumps(told)
    save_file(load_file(path), path, metadata)
    with pytest.raises(EraserFileError, match=r"bad\.safetensors"):
        EraserSet.load(path)


def test_a_shape_is_kept_when_scaled_multiplied_when_shaped_again_and_not_combined() -> None:
    shaped = eraser(Shape(keys=0.5))
    assert shaped.scaled(0.5).shape == Shape(keys=0.5)
    assert shaped.shaped(Shape({"input": 0.0}, keys=0.5)).shape == Shape({"input": 0.0}, keys=0.25)
    assert eraser().shaped(WHOLE).shape == WHOLE
    for first, second in ((shaped, eraser()), (eraser(), shaped)):
        with pytest.raises(InputError, match="one after the other"):
            first.combined(second, {})


def test_provenance_tells_of_a_shape_only_where_it_is_applied() -> None:
    assert eraser(Shape(keys=0.0)).provenance_as_applied().shape == "keys off"
    assert eraser().provenance_as_applied() == eraser().provenance
    assert eraser(Shape(keys=0.0)).provenance.shape is None
