"""The methods a person can choose, one module each. A new one is a module here and a line in `METHODS`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ....rece_ops import ProjectionSettings, RECESettings
from .method import Advice, EncodedRequest, Method, Needs, Outcome, Plan, Remedies
from .projection import ProjectionMethod, ProjectionPlan
from .rece import RECE, UCE, EditPlan

METHODS: Mapping[str, Method] = MappingProxyType(
    {method.name: method for method in (RECE(), UCE(), ProjectionMethod())}
)
"""Every method by its name, in the order of the node's choice."""

DEFAULT_METHOD = "RECE"


def methods_with(name: str) -> tuple[str, ...]:
    """The names of the methods for which the input `name` counts."""
    return tuple(method.name for method in METHODS.values() if name in method.inputs)


def plan_with(settings: RECESettings | ProjectionSettings) -> Plan:
    """The plan of a method's own coefficients, where no person chose them on a node."""
    if isinstance(settings, ProjectionSettings):
        return ProjectionPlan(ProjectionMethod(), settings)
    return EditPlan(RECE() if settings.epochs else UCE(), settings)


def assessment_plan(method: str | None, regularization: float) -> Plan:
    """The plan by which what an eraser did is judged.

    Args:
        method: that the eraser names. A projection is judged by other words in the concept's place, all else by targets.
        regularization: λ_r of the derived embedding.

    Raises:
        InputError: λ_r is out of range.
    """
    if method == ProjectionMethod().name:
        return plan_with(ProjectionSettings(regularization=regularization))
    return plan_with(RECESettings(epochs=0, regularization=regularization))


__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "Advice",
    "EncodedRequest",
    "Method",
    "Needs",
    "Outcome",
    "Plan",
    "Remedies",
    "assessment_plan",
    "methods_with",
    "plan_with",
]
