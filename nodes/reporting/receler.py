"""What a training of Receler did, in words and curves."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...rece_ops.training.record import RecelerRecord, first, recent
from ...rece_ops.training.settings import RecelerSettings
from ..host.jobs.train_receler import TrainedReceler
from ..request.training_request import TrainingRequest
from .training import NO_PROOF, curves, how_it_ended

_EVERYWHERE = 0.95
"""Masks that hold more of the picture than this for the concept leave little to keep."""
_LEFT = 0.5
"""Where more of the unedited model's erasing loss than this is left, little was learned."""


def receler_report(request: TrainingRequest[RecelerSettings], trained: TrainedReceler) -> str:
    """What was trained, how the losses went, and what to think of it."""
    record, settings, count = trained.record, request.settings, len(request.concepts)
    way = "as described: learned tokens behind the prompt look for the concept"
    lines = [
        f"Trained {count} concept{'s' if count > 1 else ''} away in {record.steps} steps by Receler "
        f"({way if settings.adversarial else 'as published: without an adversary'}): adapters {trained.adapters.describe()}, "
        f"{trained.adapters.count:,} numbers, {trained.seconds:.0f} s on {trained.device.type}."
    ]
    lines += how_it_ended(record)
    if record.steps:
        lines += _losses(record, settings.adversarial)
    if request.preserved:
        lines.append(
            "Note: 'preserve' has no effect with Receler, which keeps what lies outside the concept's place in each picture."
        )
    return "\n".join([*lines, NO_PROOF])


def _losses(record: RecelerRecord, attacked: bool) -> list[str]:
    erasing, unedited, masked = recent(record.erasing), recent(record.unedited), recent(record.masked)
    lines = [
        f"Erasing loss: {first(record.erasing):.4f} at first, {erasing:.4f} at last; the unedited model has {unedited:.4f} at last.",
        f"Outside the concept's place ({1 - masked:.0%} of a picture), adapters add {recent(record.localized):.2g} (mean square).",
    ]
    if attacked:
        lines.append(
            f"Adversary: its predictions are {recent(record.attacking):.4f} away from the concept's at last; what the training pulls "
            f"to is {unedited:.4f} away."
        )
    if erasing > _LEFT * unedited:
        lines.append(
            "Warning: Most of the erasing loss is left: train longer, or with a higher 'adapter_rate' or a lower 'mask_weight'."
        )
    if masked > _EVERYWHERE:
        lines.append(
            "Warning: The attention to the concept is nearly everywhere, so that nearly nothing is kept in place: raise "
            "'mask_threshold'."
        )
    return lines


def receler_curves(record: RecelerRecord) -> Tensor:
    """One picture [1, height, width, 3] in 0 … 1 of the losses, step by step."""

    def plot(concept: Any, rest: Any) -> None:
        concept.plot(record.erasing, label="erasing loss")
        concept.plot(record.unedited, label="unedited model's", linewidth=1)
        concept.plot(record.attacking, label="distance from the concept", linewidth=1)
        rest.plot(record.localized, label="added outside its place")

    return curves(plot, 1e-5)
