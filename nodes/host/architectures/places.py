"""Where in the network a weight is, and what it is to the text: what a `Shape` goes by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ....rece_ops import EraserSet
from ....rece_ops.errors import InputError
from ....rece_ops.shape import KEYS, KEYS_AND_VALUES, OTHER, READER, VALUES, Shape
from ..errors import UnsupportedModelError, WrongConnectionError
from .detection import PREFIX, SUFFIX, Architecture

_MIDDLE = re.compile(r"middle_block\.")
# As in input_blocks.4.1.…, blocks.12.…, blocks.block12.… and double_blocks.3.….
_NUMBERED = re.compile(r"(?:(?P<group>[a-z]{1,20})_)?blocks\.(?:block)?(?P<number>\d{1,3})\.")
_ROLE = re.compile(r".*[._](?:to_)?(?P<role>k|v|kv)(?:_proj)?(?:\.\d+)?")
_ROLES = {"k": KEYS, "v": VALUES, "kv": KEYS_AND_VALUES}
_PLAIN = "block"
"""The group of blocks that a network only numbers."""


class Place(NamedTuple):
    """A weight's block (none where it is in no block) and its role, one of those in `rece_ops.shape`."""

    group: str | None
    number: int | None
    role: str

    @property
    def block(self) -> str | None:
        """As a `Shape` calls the block."""
        return self.group if self.number is None else f"{self.group} {self.number}"


def place_of(key: str, reads_text: bool) -> Place:
    """The place of a weight by its state-dict key."""
    layer = key.removeprefix(PREFIX).removesuffix(SUFFIX)
    role = _ROLE.fullmatch(layer) if reads_text else None
    group, number = _block_of(layer)
    return Place(group, number, _ROLES[role["role"]] if role else READER if reads_text else OTHER)


def strengths_of(architecture: Architecture, eraser: EraserSet) -> dict[str, float]:
    """By what factor each weight that `eraser` changes, and each layer with an adapter, is changed; steps are not looked at.

    It is 1 everywhere where the eraser has no shape.

    Raises:
        InputError: the shape cannot be followed in this architecture.
        WrongConnectionError: it names a block in which nothing is changed, or leaves nothing at all.
    """
    keys = [
        key for stream in architecture.erased_by(eraser) if eraser.transforms[stream.name].rank for key in stream.keys
    ]
    keys += [key for change in eraser.changes for key in change.changes]
    keys += [layer for adapters in eraser.adapters.values() for layer in adapters.adapters]
    if eraser.shape.is_whole:
        return dict.fromkeys(keys, 1.0)
    readers = set(architecture.keys)
    pooled = {key for stream in architecture.streams if stream.pooled for key in stream.keys}
    places = {key: place_of(key, key in readers) for key in keys if key not in pooled}
    _check_blocks(eraser.shape, places.values())
    found = {key: _strength(eraser.shape, places[key], architecture) if key in places else 1.0 for key in keys}
    if not any(found.values()):
        raise WrongConnectionError(
            f"The ERASER's shape ({eraser.shape.describe()}) leaves nothing of it on this MODEL: raise one of its strengths."
        )
    return found


def _strength(shape: Shape, place: Place, architecture: Architecture) -> float:
    try:
        role = shape.of_role(place.role)
    except InputError as error:
        raise InputError(f"The ERASER's shape does not fit this {architecture.name} MODEL. {error}") from error
    return role if place.group is None else role * shape.of_block(place.group, place.number)


def _check_blocks(shape: Shape, places: Iterable[Place]) -> None:
    found = [place for place in places if place.block]
    known = {name for place in found for name in (place.group, place.block)}
    for name in shape.blocks:
        if name not in known:
            raise WrongConnectionError(
                f"The ERASER's shape names the block '{name}', but on this MODEL it changes nothing there. "
                + (
                    f"It changes {_listed(found)}."
                    if found
                    else "Its text readers are in no block: leave the blocks at 1."
                )
            )


def _block_of(layer: str) -> tuple[str | None, int | None]:
    if _MIDDLE.match(layer):
        return "middle", None
    match = _NUMBERED.match(layer)
    return (match["group"] or _PLAIN, int(match["number"])) if match else (None, None)


def _listed(places: Iterable[Place]) -> str:
    """As in 'input 1, 2, 4, middle'."""
    groups: dict[str, list[int]] = {}
    for place in places:
        numbers = groups.setdefault(place.group or "", [])
        if place.number is not None and place.number not in numbers:
            numbers.append(place.number)
    return ", ".join(
        " ".join([group, ", ".join(map(str, sorted(numbers)))]).strip() for group, numbers in groups.items()
    )


def by_strength(keys: Iterable[str], strengths: Mapping[str, float]) -> dict[float, list[str]]:
    """The keys by their strengths, without those of which nothing counts."""
    found: dict[float, list[str]] = {}
    for key in keys:
        if strengths.get(key, 0.0) != 0:
            found.setdefault(strengths[key], []).append(key)
    return found


def check_unshaped(eraser: EraserSet) -> None:
    """Raise WrongConnectionError where `eraser` has a shape, for those who need an erasure that is the same everywhere."""
    if not eraser.shape.is_whole:
        raise WrongConnectionError(
            f"This ERASER counts only in part of the model or of the steps ({eraser.shape.describe()}), which this node cannot "
            "follow: connect the ERASER before 'Shape Eraser'. 'Apply Eraser' and 'Compare Erasure' take this one."
        )


def check_no_schedule(eraser: EraserSet, what: str) -> None:
    """Raise UnsupportedModelError where `eraser` counts only in part of the steps, which `what` (a kind of file) cannot hold."""
    schedule = eraser.shape.schedule
    if not schedule.is_always:
        raise UnsupportedModelError(
            f"{what} holds weights that are the same in every step, but this ERASER counts only in part of them "
            f"({schedule.describe()}): save it with 'Save Eraser', or give 'Shape Eraser' a start of 0, an end of 1 and a steady "
            "curve."
        )
