"""Projection: removes the directions that set a concept apart from other words in the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ....rece_ops import Erasure, InputError, Projection, ProjectionSettings, project_differences
from ....rece_ops.progress import Progress, Steps
from .. import presets
from ..everyday_prompts import CALIBRATION, CONTEXTS
from ..vocabulary import CUSTOM, EXACTLY, ROBUSTNESS
from .method import Advice, EncodedRequest, Inputs, Needs, Outcome, Remedies, counted

_ADVICE = Advice(
    milder="Lower 'robustness' or the number of 'directions'",
    stronger="Raise the number of 'directions', or preserve fewer prompts exactly",
    steadier="Raise 'robustness'",
    remedies=Remedies(
        left="Give the concept a target, or another one: 'concepts' takes 'a -> b'.",
        drifted="Set 'robustness' to 'balanced' or 'gentle'.",
        back="Set 'robustness' to 'strict'.",
    ),
)


@dataclass(frozen=True)
class ProjectionPlan:
    """One oblique projection.

    Attributes:
        method: the projection.
        settings: coefficients.
        exactly: whether preserved prompts must not move at all.
    """

    method: ProjectionMethod
    settings: ProjectionSettings
    exactly: bool = False

    def needs(self, templates: Sequence[str]) -> Needs:
        """The contexts in which concepts are compared with other words, and everyday prompts to spare."""
        return Needs(contexts=("{}", *templates) if templates else CONTEXTS, calibration=CALIBRATION)

    def run(self, weights: Mapping[str, Tensor], encoded: EncodedRequest, progress: Progress | None) -> Outcome:
        """See `rece_ops.project_differences`; the weights were read for G, which the differences hold.

        Raises:
            GramTooRough: see there; the differences have to be gathered again with a more precise G.
        """
        assert encoded.differences is not None  # this method has contexts
        steps = Steps(progress, 3)
        projection = project_differences(
            encoded.differences,
            encoded.pairs,
            list(encoded.preserved.values()),
            self.settings,
            neutral=encoded.calibration,
            without=encoded.without,
            preserve_exactly=encoded.preserved if self.exactly else {},
            done=steps.done,
        )
        return Outcome(projection)


@dataclass(frozen=True)
class ProjectionMethod:
    """See `rece_ops.methods.projection`."""

    name: str = "projection"
    summary: str = (
        "projection: removes the directions that set the concept apart from other words. Keeps what is close to the concept "
        "without being told; no embedding brings back what lies along the directions."
    )
    price: str = (
        "projection: for many concepts at once, and where close relatives must stay: on this pack's small test model, with a "
        "target, 11 % of the concept's pictures still showed it, and 92 % of other prompts came out right (99 % before)."
    )
    guarantee: str = (
        "No embedding brings back what lies along the erased directions; gradients find what lies next to them."
    )
    inputs: tuple[str, ...] = ("regularization", "robustness", "beta", "directions", "preservation")
    advice: Advice = _ADVICE

    def plan(self, inputs: Inputs) -> ProjectionPlan:
        """β in words or as a number. The preset gives the default target, and λ_r of the measures."""
        if inputs["preset"] == presets.UCE_ONLY:
            raise InputError(
                f"The method is '{self.name}', but the preset '{presets.UCE_ONLY}' asks for another: choose the preset by "
                "kind of concept, or the method 'UCE'."
            )
        beta = inputs["beta"] if inputs["robustness"] == CUSTOM else ROBUSTNESS[inputs["robustness"]]
        rece = presets.settings_of(inputs["preset"], inputs)
        settings = ProjectionSettings(beta, inputs["directions"] or None, regularization=rece.regularization)
        return ProjectionPlan(self, settings, inputs["preservation"] == EXACTLY)

    def describe(self, erasures: Sequence[Erasure | Projection]) -> str:
        """The number of directions, and β."""
        projections = [erasure for erasure in erasures if isinstance(erasure, Projection)]
        directions = counted([one.directions.shape[1] for one in projections], "direction")
        return f"a projection along {directions} (β {projections[0].settings.robustness:g})"
