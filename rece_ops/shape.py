"""Where an erasure counts: by block of the network, by key and value, and by the step of a sampling."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import InputError
from .schedule import ALWAYS, MAX_STRENGTH, Schedule, check_number, schedule_of
from .texts import quoted

KEYS, VALUES, KEYS_AND_VALUES, READER, OTHER = "keys", "values", "keys and values", "text reader", "other weight"
"""What a weight is to the text: the keys or values of a cross-attention, both in one, a layer that reads it in another way,
or none of these (a trained eraser changes such weights)."""

BLOCK = re.compile(r"(?P<group>[a-z]{1,20})(?: (?P<number>\d{1,3}))?")
"""How a block is called, as in 'middle' and 'input 4'; a group alone means all its blocks."""

MAX_BLOCKS = 500
MAX_BYTES = 2**16


@dataclass(frozen=True)
class Shape:
    """Factors of an erasure's strength, by where and when. It says nothing about pooled embeddings, which are in no block.

    Attributes:
        blocks: by the name of a block or of a group of blocks; a block that is named goes before its group, and what is
            not named has 1. What says nothing is left out: two shapes that say the same are equal.
        keys: of weights that give keys.
        values: of weights that give values.
        others: of weights that read no text, and of adapters.
        schedule: by the step.

    Raises:
        InputError: a number is not finite or out of range, or a block has a name that no block can have.
    """

    blocks: Mapping[str, float] = field(default_factory=dict)
    keys: float = 1.0
    values: float = 1.0
    others: float = 1.0
    schedule: Schedule = ALWAYS

    def __post_init__(self) -> None:
        for name in ("keys", "values", "others"):
            check_number(name, getattr(self, name), MAX_STRENGTH)
            object.__setattr__(self, name, float(getattr(self, name)))
        if len(self.blocks) > MAX_BLOCKS:
            raise InputError(f"{len(self.blocks)} blocks are named: {MAX_BLOCKS} are the most.")
        for name, strength in self.blocks.items():
            if not isinstance(name, str) or not BLOCK.fullmatch(name):
                raise InputError(f"{quoted(name)} is no name of a block: write 'middle' or 'input 4', for example.")
            check_number(f"The strength of the block '{name}'", strength, MAX_STRENGTH)
        object.__setattr__(self, "blocks", _without_idle(self.blocks))

    @property
    def is_whole(self) -> bool:
        """Whether it leaves an erasure as it is."""
        return self == WHOLE

    def of_block(self, group: str, number: int | None = None) -> float:
        """The factor of a block; of a weight in no block it is 1."""
        return _resolved(self.blocks, _name(group, number))

    def of_role(self, role: str) -> float:
        """The factor of what a weight is to the text.

        Raises:
            InputError: the weight holds keys and values in one, or neither, and the two have different factors.
        """
        if role == OTHER:
            return self.others
        if role == KEYS:
            return self.keys
        if role == VALUES:
            return self.values
        if role == KEYS_AND_VALUES and self.keys == self.values:
            return self.keys
        if role == READER and self.keys == self.values == 1:
            return 1.0
        raise InputError(
            "This model reads the text in a layer that gives keys and values at once: give 'keys' and 'values' the same strength."
            if role == KEYS_AND_VALUES
            else "This model reads the text in a layer that gives neither keys nor values: leave 'keys' and 'values' at 1, and "
            "use 'strength'."
        )

    def __mul__(self, other: Shape) -> Shape:
        """Both at once: the product of the factors."""
        names = {*self.blocks, *other.blocks}
        return Shape(
            {name: _resolved(self.blocks, name) * _resolved(other.blocks, name) for name in names},
            self.keys * other.keys,
            self.values * other.values,
            self.others * other.others,
            self.schedule * other.schedule,
        )

    def describe(self) -> str:
        """As in 'input at 0.5, output 3 off; values off; 50% to 100% of the sampling'."""
        blocks = ", ".join(f"{name} {_factor(one)}" for name, one in self.blocks.items())
        told = {"keys": self.keys, "values": self.values, "other weights": self.others}
        roles = ", ".join(f"{name} {_factor(one)}" for name, one in told.items() if one != 1)
        steps = "" if self.schedule.is_always else self.schedule.describe()
        return "; ".join(part for part in (_shortened(blocks), roles, steps) if part)

    def as_json(self) -> str:
        """As a file holds it."""
        return json.dumps(
            {
                "blocks": dict(self.blocks),
                "keys": self.keys,
                "values": self.values,
                "others": self.others,
                "schedule": [list(level) for level in self.schedule.levels],
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Shape:
        """The shape in a file.

        Raises:
            InputError: the text is too long, or no shape; see `Shape`.
        """
        try:
            told = json.loads(text) if len(text) <= MAX_BYTES else None
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or set(told) != {"blocks", "keys", "values", "others", "schedule"}:
            raise InputError("Its shape (blocks, keys, values and steps) cannot be read.")
        if not isinstance(told["blocks"], dict):
            raise InputError("The blocks of its shape cannot be read.")
        return cls(told["blocks"], told["keys"], told["values"], told["others"], schedule_of(told["schedule"]))


def _name(group: str, number: int | None) -> str:
    return group if number is None else f"{group} {number}"


def _resolved(blocks: Mapping[str, float], name: str) -> float:
    return blocks.get(name, blocks.get(name.partition(" ")[0], 1.0))


def _without_idle(blocks: Mapping[str, float]) -> dict[str, float]:
    """The blocks in order, without those that have what they would have anyway."""
    groups = {name: float(one) for name, one in blocks.items() if " " not in name and one != 1}
    numbered = {_normal(name): float(one) for name, one in blocks.items() if " " in name}
    kept = {name: one for name, one in numbered.items() if one != _resolved(groups, name)}
    return dict(sorted({**groups, **kept}.items(), key=lambda pair: _order(pair[0])))


def _normal(name: str) -> str:
    group, _, number = name.partition(" ")
    return f"{group} {int(number)}"


def _order(name: str) -> tuple[str, int]:
    group, _, number = name.partition(" ")
    return group, int(number or -1)


def _factor(one: float) -> str:
    return "off" if one == 0 else f"at {one:g}"


def _shortened(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[:limit].rpartition(", ")[0] + ", …"


WHOLE = Shape()
"""Everywhere and always."""
