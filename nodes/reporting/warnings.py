"""What a person should know before trusting an erasure, and which setting to change."""

from __future__ import annotations

from ...rece_ops import KeptLimits, Measures
from ...rece_ops.linear.solves import WARN_CONDITION
from ...rece_ops.measures.thresholds import HIGH_RESIDUAL, RUINOUS_DRIFT, VISIBLE_DRIFT
from ...rece_ops.texts import quoted
from ..request.methods import Advice


def warnings(measures: Measures, advice: Advice) -> tuple[str, ...]:
    """Sentences; none if all is well."""
    found = (_drifted(measures, advice), _left(measures, advice), *_ill_conditioned(measures, advice))
    return tuple(sentence for sentence in found if sentence)


def notes(kept: KeptLimits | None) -> tuple[str, ...]:
    """What was done to keep the limits of an iteration."""
    if kept is None:
        return ()
    found = []
    if kept.lowered_from is not None:
        found.append(
            f"The erase scale was lowered from {kept.lowered_from:g} to {kept.erasure.settings.erase_scale:.3g}, so that "
            f"everyday prompts drift by {kept.limits.drift:.0%} at most."
        )
    if kept.stopped_after is not None:
        reason = (
            f"the next one would let everyday prompts drift by more than {kept.limits.drift:.0%}"
            if kept.regeneration is None
            else f"the derived embedding brings no concept back by more than {kept.regeneration:.0%}"
        )
        found.append(f"Stopped after {kept.stopped_after} of {kept.asked_epochs} epochs: {reason}.")
    return tuple(found)


def _drifted(measures: Measures, advice: Advice) -> str:
    drifts = {**measures.drift, **measures.held_out_drift}
    name = max(drifts, key=drifts.__getitem__, default="")
    if not drifts or drifts[name] <= VISIBLE_DRIFT:
        return ""
    ruined = "will mostly lose what they say" if drifts[name] > RUINOUS_DRIFT else "will visibly change"
    return (
        f"Pictures of prompts that should stay {ruined}: the outputs of {quoted(name)} change by {drifts[name]:.0%}. "
        f"{advice.milder}, or preserve prompts like it."
    )


def _left(measures: Measures, advice: Advice) -> str:
    left = [concept for concept in measures.concepts if concept.residual > HIGH_RESIDUAL]
    if not left:
        return ""
    most = max(left, key=lambda concept: concept.residual)
    return (
        f"{len(left)} of {len(measures.concepts)} concepts are still there: {quoted(most.name)} keeps {most.residual:.0%} of its "
        f"distance from the target. {advice.stronger}."
    )


def _ill_conditioned(measures: Measures, advice: Advice) -> list[str]:
    return [
        f"The {name} is ill-conditioned (condition number {condition:.1e}): its result is only roughly right. "
        f"{advice.steadier}."
        for name, condition in measures.conditions.items()
        if condition > WARN_CONDITION
    ]
