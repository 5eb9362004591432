"""What a training did, in words and curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...rece_ops.training.record import Record, TrainingRecord, first, recent
from ...rece_ops.training.settings import HardenedSettings
from ..host.jobs.train import Trained
from ..request.training_request import TrainingRequest
from .figure import MISSING, picture_of, picture_of_sentence

NO_PROOF = (
    "Note: No figure here says that the concept is gone. Sample its prompts, and attack it with 'Invert Concept' and several seeds: "
    "the best of them is what counts."
)
_CLOSE = 1.5
"""Adversaries whose error is below this many times the unedited MODEL's have found the concept."""


def training_report(request: TrainingRequest[HardenedSettings], trained: Trained) -> str:
    """What was trained, how the losses went, and what to think of it."""
    record, settings = trained.record, request.settings
    count = len(request.concepts)
    lines = [
        f"Trained {count} concept{'s' if count > 1 else ''} away in {record.steps} steps on {trained.pictures} pictures of "
        f"{'them' if count > 1 else 'it'} and {trained.retained} of other things: {trained.weights} weights, rank "
        f"{settings.rank} at most, {trained.seconds:.0f} s on {trained.device.type}."
    ]
    lines += [f"Note: {note}" for note in request.notes]
    lines += how_it_ended(record)
    if record.steps:
        lines += _losses(record, settings.adversaries > 0)
    return "\n".join([*lines, NO_PROOF])


def how_it_ended(record: Record) -> list[str]:
    """Why a training ended early, and how many of its steps changed nothing."""
    lines = []
    if record.stopped:
        lines.append(f"Warning: The training stopped after step {record.steps}: {record.stopped}.")
    if record.skipped:
        lines.append(f"Note: {record.skipped} steps changed nothing, because their gradients were not finite.")
    return lines


def _losses(record: TrainingRecord, attacked: bool) -> list[str]:
    lines = [
        f"Erasing loss: {first(record.erasing):.4f} at first, {recent(record.erasing):.4f} at last.",
        f"Retain loss: {record.retain_share:.1%} of the model's own error on what should stay.",
    ]
    if attacked:
        found, unedited = recent(record.attacking), recent(record.unedited_concept)
        lines.append(
            f"Adversaries: their error on the concept's pictures is {found:.4f} at last; the unedited model has {unedited:.4f} with "
            "the concept's own prompts."
        )
        if found < _CLOSE * unedited:
            lines.append(
                "Warning: The last adversaries make the concept almost as the unedited model does: train longer, with a higher "
                "learning rate or a lower retain weight."
            )
    return lines


def training_curves(record: TrainingRecord) -> Tensor:
    """One picture [1, height, width, 3] in 0 … 1 of the losses, step by step."""

    def plot(concept: Any, rest: Any) -> None:
        concept.plot(record.erasing, label="erasing loss")
        concept.plot(record.attacking, label="adversaries' error")
        concept.plot(record.unedited_concept, label="unedited model's error, own prompt", linewidth=1)
        rest.plot(record.retaining, label="retain loss")
        rest.plot(record.unedited_rest, label="unedited model's error", linewidth=1)

    return curves(plot, 1e-4)


def curves(plot: Callable[[Any, Any], None], smallest: float) -> Tensor:
    """Losses as a picture, [1, height, width, 3] in 0 … 1.

    Args:
        plot: draws those of the concept, and those of what should stay, each into its own axes.
        smallest: from which on the scale is logarithmic.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return picture_of_sentence(MISSING)
    drawing = Figure(figsize=(12, 4), dpi=100, layout="constrained")
    concept, rest = drawing.subplots(1, 2)
    plot(concept, rest)
    for axes, title in ((concept, "The concept"), (rest, "What should stay")):
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_yscale("symlog", linthresh=smallest)
        axes.set_ylim(bottom=0)
        axes.legend()
    return picture_of(drawing)
