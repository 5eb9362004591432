"""The `method` choice and what belongs to it: from the words on the node to settings of `rece_ops`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ...rece_ops import InputError, Limits, ProjectionSettings, RECESettings
from .. import presets
from .choices import check_choice

RECE, UCE, PROJECTION = "RECE", "UCE", "projection"
METHODS = (RECE, UCE, PROJECTION)

ROBUSTNESS: Mapping[str, float] = MappingProxyType({"gentle": 0.3, "balanced": 3.0, "robust": 30.0, "strict": 300.0})
"""β of the projection in words, from sparing everything else to sparing no embedding."""
DEFAULT_ROBUSTNESS = "robust"

PUBLISHED, ANCHORED = "published", "anchored"
ITERATIONS = (PUBLISHED, ANCHORED)

WEIGHED, EXACTLY = "weighed", "exactly"
PRESERVATIONS = (WEIGHED, EXACTLY)


@dataclass(frozen=True)
class MethodChoice:
    """The inputs of the node that choose a method, as they were given.

    Attributes:
        method: one of `METHODS`.
        preset: of the authors' settings; for a projection it gives the default target and λ_r of the measures only.
        numbers: for the preset 'custom'.
        robustness: a word of `ROBUSTNESS`, or 'custom' for `beta`.
        beta: β of the projection.
        directions: of the projection, 0 for as many as needed.
        iteration: one of `ITERATIONS`.
        preservation: one of `PRESERVATIONS`.
        regeneration_limit, drift_limit: 0 for none.
    """

    method: str
    preset: str
    numbers: Mapping[str, Any]
    robustness: str
    beta: float
    directions: int
    iteration: str
    preservation: str
    regeneration_limit: float
    drift_limit: float

    def settings(self) -> RECESettings | ProjectionSettings:
        """The settings of the chosen method.

        Raises:
            InputError: a choice does not exist, a number is out of range, or two of them contradict each other.
        """
        self._check()
        rece = presets.settings_of(self.preset, self.numbers)
        if self.method == PROJECTION:
            beta = self.beta if self.robustness == presets.CUSTOM else ROBUSTNESS[self.robustness]
            return ProjectionSettings(beta, self.directions or None, regularization=rece.regularization)
        if self.method == UCE:
            return replace(rece, epochs=0)
        return replace(rece, anchored=self.iteration == ANCHORED)

    def limits(self) -> Limits:
        """The limits of the iteration.

        Raises:
            InputError: a limit is no number or out of range.
        """
        return Limits(self.regeneration_limit or None, self.drift_limit or None)

    def _check(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("robustness", self.robustness, [*ROBUSTNESS, presets.CUSTOM])
        check_choice("iteration", self.iteration, ITERATIONS)
        check_choice("preservation", self.preservation, PRESERVATIONS)
        if self.method == PROJECTION and self.preset == presets.UCE_ONLY:
            raise InputError(
                f"The method is '{PROJECTION}', but the preset '{presets.UCE_ONLY}' asks for another: choose the preset "
                f"by kind of concept, or the method '{UCE}'."
            )
        if self.method == PROJECTION and (self.regeneration_limit or self.drift_limit):
            raise InputError(
                f"The method is '{PROJECTION}', which has no epochs that a limit could stop: set 'regeneration_limit' "
                f"and 'drift_limit' to 0 and choose another 'robustness', or choose the method '{RECE}'."
            )
        if self.method != PROJECTION and self.directions:
            raise InputError(
                f"'directions' is {self.directions}, but the method '{self.method}' does not choose directions: set it "
                f"to 0, or choose the method '{PROJECTION}'."
            )
