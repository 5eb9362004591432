"""How much of an erasure counts at each point of a sampling: a strength that is constant between a few points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .errors import InputError
from .texts import quoted

STEADY, RISING, FALLING = "steady", "rising", "falling"
CURVES = (STEADY, RISING, FALLING)
MAX_LEVELS = 200
MAX_STRENGTH = 1e4
"""Of a level, and of any other strength in a file."""

_CURVE_LEVELS = 10
_SHOWN = 4


@dataclass(frozen=True)
class Schedule:
    """A strength for every point of a sampling, from 0 (pure noise) to 1 (the finished picture), as ComfyUI counts them.

    Attributes:
        levels: (start, strength) in the order of their starts, the first at 0; each counts up to the next. Neighbours
            differ in strength: two schedules that say the same are equal.

    Raises:
        InputError: a number is not finite or out of range, or there are too many levels.
    """

    levels: tuple[tuple[float, float], ...] = ((0.0, 1.0),)

    def __post_init__(self) -> None:
        if not 0 < len(self.levels) <= MAX_LEVELS:
            raise InputError(f"The schedule has {len(self.levels)} levels: give 1 to {MAX_LEVELS}.")
        for start, strength in self.levels:
            check_number("a point of the schedule", start, 1.0)
            check_number("a strength of the schedule", strength, MAX_STRENGTH)
        starts = [start for start, _ in self.levels]
        if starts[0] != 0 or any(one >= other for one, other in pairwise(starts)):
            raise InputError("The points of the schedule do not begin at 0 and rise.")
        object.__setattr__(self, "levels", _merged(self.levels))

    @classmethod
    def between(cls, start: float, end: float, curve: str = STEADY) -> Schedule:
        """Strength 1 from `start` to `end`, nothing outside; or rising to 1 or falling from it, in ten equal levels.

        Raises:
            InputError: the two are not in order within 0 to 1, or there is no such curve.
        """
        for name, value in (("start_percent", start), ("end_percent", end)):
            check_number(name, value, 1.0)
        if start >= end:
            raise InputError(
                f"'start_percent' is {start:g} and 'end_percent' {end:g}, so that no step is between them: give a start below "
                "the end."
            )
        if curve not in CURVES:
            raise InputError(f"'curve' is {quoted(curve)}: choose one of {', '.join(CURVES)}.")
        count = 1 if curve == STEADY else _CURVE_LEVELS
        # The middle of each level's part of the straight line.
        shares = [1.0] if count == 1 else [(2 * number + 1) / (2 * count) for number in range(count)]
        if curve == FALLING:
            shares.reverse()
        levels = [(start + (end - start) * number / count, share) for number, share in enumerate(shares)]
        before = [(0.0, 0.0)] if start > 0 else []
        after = [(end, 0.0)] if end < 1 else []
        return cls((*before, *levels, *after))

    @property
    def is_always(self) -> bool:
        """Whether it is strength 1 from beginning to end."""
        return self.levels == ((0.0, 1.0),)

    def at(self, point: float) -> float:
        """The strength at a point."""
        return [strength for start, strength in self.levels if start <= point][-1]

    def __mul__(self, other: Schedule) -> Schedule:
        """Both at once: the product of the strengths at every point."""
        starts = sorted({start for start, _ in (*self.levels, *other.levels)})
        return Schedule(tuple((start, self.at(start) * other.at(start)) for start in starts))

    def describe(self) -> str:
        """As in '50% to 100% of the sampling'."""
        ends = [*(start for start, _ in self.levels[1:]), 1.0]
        on = [(start, end, one) for (start, one), end in zip(self.levels, ends, strict=True) if one != 0]
        if not on:
            return "at no step"
        shown = [f"{_range(start, end)}{'' if one == 1 else f' at {one:g}'}" for start, end, one in on[:_SHOWN]]
        return ", ".join([*shown, *(["…"] if len(on) > _SHOWN else [])]) + " of the sampling"


def schedule_of(told: Any) -> Schedule:
    """The schedule in a list of [start, strength], such as a file has.

    Raises:
        InputError: it is no such list, or see `Schedule`.
    """
    if not isinstance(told, list) or not all(isinstance(one, list) and len(one) == 2 for one in told):
        raise InputError("The schedule is no list of points and strengths.")
    return Schedule(tuple((start, strength) for start, strength in told))


def check_number(name: str, value: Any, highest: float) -> None:
    """Raise InputError unless `value` is a finite number from 0 to `highest`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{name} is {quoted(value)}: give a number from 0 to {highest:g}.")
    # Compared first: a whole number can be too large to be made a float.
    if not 0 <= value <= highest or not math.isfinite(value):
        raise InputError(f"{name} is {quoted(value)}: give a number from 0 to {highest:g}.")


def _merged(levels: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    found = [(float(start), float(strength)) for start, strength in levels]
    kept = [one for number, one in enumerate(found) if number == 0 or one[1] != found[number - 1][1]]
    # At the very end nothing is computed any more.
    return tuple(one for number, one in enumerate(kept) if number == 0 or one[0] < 1)


def _range(start: float, end: float) -> str:
    return f"{start:.0%} to {end:.0%}"


ALWAYS = Schedule()
"""Strength 1 from beginning to end."""
