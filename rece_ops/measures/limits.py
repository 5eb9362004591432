"""Limits on RECE's iteration: when to stop, and how strong the edit may be before pictures go blank."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ..eraser import Eraser
from ..errors import InputError
from ..methods.rece import Erasure
from ..settings import RECESettings, check_coefficient
from .outputs import concept_regenerations, derivations_of, drift

# The erase scale is looked for in steps of a factor of two, then to a tenth of one.
_WEAKEST = 2.0**-20
_REFINEMENTS = 4


@dataclass(frozen=True)
class Limits:
    """What an iteration must not exceed; None is no limit.

    Attributes:
        regeneration: epochs stop as soon as the derived embedding brings no concept back further than this (0 to 1).
        drift: no everyday prompt's outputs may change by more than this share. An epoch that changes them more is
            not taken; where already the first edit does, its erase scale is lowered until it does not.

    Raises:
        InputError: a limit is no number or out of range.
    """

    regeneration: float | None = None
    drift: float | None = None

    def __post_init__(self) -> None:
        for name in ("regeneration", "drift"):
            value = getattr(self, name)
            if value is not None:
                check_coefficient(f"the limit of {name}", value)


@dataclass(frozen=True)
class KeptLimits:
    """An erasure within limits, and what was done to keep them.

    Attributes:
        erasure: the erasure.
        limits: what it keeps.
        lowered_from: the erase scale before it was lowered; None where it was not.
        stopped_after: epochs that were kept of `asked_epochs`; None where all were.
        asked_epochs: epochs that there would have been.
        regeneration: of the concept that the derived embedding brings back furthest, where that is why it stopped.
    """

    erasure: Erasure
    limits: Limits
    lowered_from: float | None = None
    stopped_after: int | None = None
    asked_epochs: int = 0
    regeneration: float | None = None


def keep_limits(
    erasure: Erasure,
    limits: Limits,
    tuning: Mapping[str, Tensor],
    again: Callable[[RECESettings], Erasure],
) -> KeptLimits:
    """`erasure` as far as `limits` allow.

    Args:
        erasure: with as many epochs as there may be.
        limits: to keep.
        tuning: token embeddings [n, d] of prompts that should stay, by which epochs and scale are chosen.
        again: the same erasure with other settings (see `rece.iterate`).

    Raises:
        InputError: even the weakest edit exceeds the drift.
    """
    lowered_from = None
    if limits.drift is not None and _drift(erasure, erasure.erasers()[0], tuning) > limits.drift:
        lowered_from = erasure.settings.erase_scale
        scale = _largest_scale(erasure, limits.drift, tuning, again)
        erasure = again(replace(erasure.settings, erase_scale=scale))
    asked = len(erasure.epochs)
    kept, regeneration = _epochs_to_keep(erasure, limits, tuning)
    if kept == asked:
        return KeptLimits(erasure, limits, lowered_from, None, asked)
    return KeptLimits(erasure.until(kept), limits, lowered_from, kept, asked, regeneration)


def _drift(erasure: Erasure, eraser: Eraser, tuning: Mapping[str, Tensor]) -> float:
    return max((drift(erasure.gram, eraser, tokens) for tokens in tuning.values()), default=0.0)


def _largest_scale(
    erasure: Erasure, budget: float, tuning: Mapping[str, Tensor], again: Callable[[RECESettings], Erasure]
) -> float:
    """The largest erase scale whose first edit keeps the budget, by bisection of its logarithm."""
    whole = erasure.settings.erase_scale

    def fits(scale: float) -> bool:
        first = again(replace(erasure.settings, epochs=0, erase_scale=scale))
        return _drift(first, first.eraser, tuning) <= budget

    low = whole / 2
    while not fits(low):
        low /= 2
        if low < whole * _WEAKEST:
            raise InputError(
                f"Even the weakest edit lets everyday prompts drift by more than {budget:.1%}: raise the drift limit, or "
                "preserve prompts like them."
            )
    high = 2 * low
    for _ in range(_REFINEMENTS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _epochs_to_keep(erasure: Erasure, limits: Limits, tuning: Mapping[str, Tensor]) -> tuple[int, float | None]:
    """How many epochs keep the limits; and the regeneration, where that was low enough to stop."""
    derivations = derivations_of(erasure)
    for number, eraser in enumerate(erasure.erasers()):
        if limits.drift is not None and _drift(erasure, eraser, tuning) > limits.drift:
            return max(number - 1, 0), None
        if limits.regeneration is not None:
            strongest = max(concept_regenerations(erasure, eraser, derivations))
            if strongest <= limits.regeneration:
                return number, strongest
    return len(erasure.epochs), None
