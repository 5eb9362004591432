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
from .erasure import concept_regenerations, drift

# The erase scale is looked for in steps of a factor of two, then to a tenth of one.
_WEAKEST = 2.0**-20
_REFINEMENTS = 4


@dataclass(frozen=True)
class Limits:
    """What an iteration must not exceed; None is no limit.

    Attributes:
        regeneration: epochs stop as soon as the derived embedding brings no concept back further than this (0 to 1).
        drift: no neutral prompt's outputs may change by more than this share. An epoch that changes them more is
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
class Limited:
    """An erasure within limits, and in plain words what was done to keep them (nothing: no sentences)."""

    erasure: Erasure
    sentences: tuple[str, ...] = ()


def keep_within(
    erasure: Erasure, limits: Limits, neutral: Mapping[str, Tensor], again: Callable[[RECESettings], Erasure]
) -> Limited:
    """`erasure` as far as `limits` allow.

    Args:
        erasure: with as many epochs as there may be.
        limits: to keep.
        neutral: token embeddings [n, d] of prompts that should stay.
        again: the same erasure with other settings (see `erase.iterate`).

    Raises:
        InputError: even the weakest edit exceeds the drift.
    """
    sentences = []
    if limits.drift is not None and _drift(erasure, erasure.erasers()[0], neutral) > limits.drift:
        scale = _largest_scale(erasure, limits.drift, neutral, again)
        sentences.append(
            f"The erase scale was lowered from {erasure.settings.erase_scale:g} to {scale:.3g}, so that neutral prompts "
            f"drift by {limits.drift:.0%} at most."
        )
        erasure = again(replace(erasure.settings, erase_scale=scale))
    kept, reason = _epochs_to_keep(erasure, limits, neutral)
    if kept < len(erasure.epochs):
        sentences.append(f"Stopped after {kept} of {len(erasure.epochs)} epochs: {reason}.")
        erasure = erasure.until(kept)
    return Limited(erasure, tuple(sentences))


def _drift(erasure: Erasure, eraser: Eraser, neutral: Mapping[str, Tensor]) -> float:
    return max((drift(erasure.gram, eraser, tokens) for tokens in neutral.values()), default=0.0)


def _largest_scale(
    erasure: Erasure, budget: float, neutral: Mapping[str, Tensor], again: Callable[[RECESettings], Erasure]
) -> float:
    """The largest erase scale whose first edit keeps the budget, by bisection of its logarithm."""
    whole = erasure.settings.erase_scale

    def fits(scale: float) -> bool:
        first = again(replace(erasure.settings, epochs=0, erase_scale=scale))
        return _drift(first, first.eraser, neutral) <= budget

    low = whole / 2
    while not fits(low):
        low /= 2
        if low < whole * _WEAKEST:
            raise InputError(
                f"Even the weakest edit lets neutral prompts drift by more than {budget:.1%}: raise the drift limit, or "
                "preserve prompts like them."
            )
    high = 2 * low
    for _ in range(_REFINEMENTS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _epochs_to_keep(erasure: Erasure, limits: Limits, neutral: Mapping[str, Tensor]) -> tuple[int, str]:
    """How many epochs keep the limits, and why no more are taken."""
    for number, eraser in enumerate(erasure.erasers()):
        if limits.drift is not None and _drift(erasure, eraser, neutral) > limits.drift:
            return max(number - 1, 0), f"the next one would let neutral prompts drift by more than {limits.drift:.0%}"
        if limits.regeneration is not None:
            strongest = max(concept_regenerations(erasure, eraser))
            if strongest <= limits.regeneration:
                return number, f"the derived embedding brings no concept back further than {strongest:.0%}"
    return len(erasure.epochs), ""
