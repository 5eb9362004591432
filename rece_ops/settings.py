"""Settings of an erasure, and the authors' own choices of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from .errors import InputError
from .texts import quoted

MAX_EPOCHS = 50
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class RECESettings:
    """Coefficients of RECE (arXiv:2407.12383, Eq. 3 and 7).

    Attributes:
        epochs: derive-and-erase steps after the first edit; 0 is UCE alone.
        regularization: λ_r of the derivation; larger keeps derived embeddings small.
        edit_regularization: λ of the edit; larger keeps every weight closer to what it was.
        erase_scale: η, weight of the pairs concept → target.
        preserve_scale: μ, weight of the preserved prompts.
        anchored: False is the published iteration: every epoch edits the weights that the one before left, and sees
            only the pairs derived from them. True edits the original weights in every epoch, with the concept's own
            pairs and all pairs derived so far, so that neither the concept nor what is preserved can drift away.
        first_preserve_scale: μ of the first edit, where it is another. The authors' scripts begin with a checkpoint that
            UCE's own script made, with μ = 1.

    Raises:
        InputError: a coefficient is no number, not finite, or out of range.
    """

    epochs: int = 3
    regularization: float = 0.1
    edit_regularization: float = 0.1
    erase_scale: float = 1.0
    preserve_scale: float = 0.1
    anchored: bool = False
    first_preserve_scale: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int):
            raise InputError(f"epochs is {quoted(self.epochs)}: give a whole number from 0 to {MAX_EPOCHS}.")
        if not 0 <= self.epochs <= MAX_EPOCHS:
            raise InputError(f"epochs is {self.epochs}: give a number from 0 (UCE alone) to {MAX_EPOCHS}.")
        for name in ("regularization", "edit_regularization", "erase_scale"):
            check_coefficient(name, getattr(self, name))
        check_coefficient("preserve_scale", self.preserve_scale, zero_allowed=True)
        if self.first_preserve_scale is not None:
            check_coefficient("first_preserve_scale", self.first_preserve_scale, zero_allowed=True)
        if not isinstance(self.anchored, bool):
            raise InputError(f"anchored is {quoted(self.anchored)}: give True or False.")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain numbers, for provenance; what says nothing is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def of_first_edit(self) -> RECESettings:
        """The same with the μ of the first edit."""
        first = self.first_preserve_scale
        return self if first is None else replace(self, preserve_scale=first)


def check_coefficient(name: str, value: Any, zero_allowed: bool = False) -> None:
    """Raise InputError unless `value` is a finite number above zero (or zero, where that is allowed)."""
    bound = "zero or more" if zero_allowed else "above zero"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{name} is {quoted(value)}, which is no number: give a finite number {bound}.")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero_allowed):
        raise InputError(f"{name} is {value}: give a finite number {bound}.")


def check_count(name: str, value: Any, low: int, high: int) -> None:
    """Raise InputError unless `value` is a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} is {quoted(value)}: give a whole number from {low} to {high}.")


def check_strength(value: Any, name: str = "strength") -> None:
    """Raise InputError unless `value`, how much of an erasure is wanted, is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}: give a finite number, 0 for none of the erasure to 1 for all of it.")


DEFAULT_SETTINGS = RECESettings()

PRESETS: Mapping[str, RECESettings] = MappingProxyType(
    {
        "nudity": RECESettings(epochs=3, regularization=1e-1),
        "unsafe": RECESettings(epochs=2, regularization=1e-1),
        "artistic style": RECESettings(epochs=1, regularization=1e-3),
        "hard object": RECESettings(epochs=1, regularization=1e-3),
        "easy object": RECESettings(epochs=1, regularization=1e-1),
        "UCE only": RECESettings(epochs=0),
        "nudity, as the authors' scripts": RECESettings(epochs=3, regularization=1e-1, first_preserve_scale=1.0),
        "artistic style, as the authors' scripts": RECESettings(
            epochs=1, regularization=1e-3, first_preserve_scale=1.0
        ),
    }
)
"""The settings of the paper's experiments, by kind of concept (λ and μ are 0.1 in all of them).

Two are given as the authors' scripts run them too: their first edit comes from UCE's script, whose μ is 1."""
