"""What an unlearning in the text encoder did, in words."""

from __future__ import annotations

from collections.abc import Sequence

from ...rece_ops.training.settings import UnlearningSettings
from ..host.jobs.unlearn import Unlearned
from ..request.training_request import TrainingRequest

_MOST_STEPS = 20
_RISEN, _RUN_AWAY = 1.1, 3.0
"""Times the error with the target in the concept's place: below the one little was unlearned, above the other too much."""


def unlearning_report(request: TrainingRequest[UnlearningSettings], unlearned: Unlearned) -> str:
    """What was unlearned, how the errors went, and what to think of it."""
    record, count = unlearned.record, len(request.concepts)
    held = f" and {unlearned.retained} of other things" if unlearned.retained else ""
    lines = [
        f"Unlearned {count} concept{'s' if count > 1 else ''} in {len(record.concept)} steps on {unlearned.pictures} pictures of "
        f"{'them' if count > 1 else 'it'}{held}: {unlearned.feed_forward} feed-forward and {unlearned.attention} self-attention "
        f"weights of the text encoder, {unlearned.seconds:.0f} s on {unlearned.device.type}."
    ]
    lines += [f"Note: {note}" for note in request.notes]
    if record.stopped:
        lines.append(f"Warning: It stopped after step {len(record.concept)}: {record.stopped}.")
    if record.concept:
        lines.append(f"Error on the concept's pictures: {_series(record.concept)}.")
        lines.append(
            f"The unedited CLIP's there: {_series(record.unedited)}; with the target in its place: {_series(record.anchored)}."
        )
    if record.retaining:
        lines.append(f"Predictions of other pictures moved by: {_series(record.retaining)} (squared).")
    lines += _remarks(unlearned)
    lines.append(
        "Note: No figure here says that the concept is gone. Sample its prompts with the new CLIP. The model still knows it: learned "
        "embeddings and other text encoders bring it back."
    )
    return "\n".join(lines)


def _remarks(unlearned: Unlearned) -> list[str]:
    record = unlearned.record
    if not record.concept:
        return []
    last, before, anchored = record.concept[-1], record.unedited[-1], record.anchored[-1]
    if last > _RUN_AWAY * max(anchored, before):
        return [
            "Warning: The error is far beyond that of the target: other prompts have probably gone too. Lower 'steps' or "
            "'learning_rate', or take method 'bounded'."
        ]
    if last < _RISEN * before:
        return ["Warning: The error hardly rose: raise 'steps' or 'learning_rate'."]
    return []


def _series(values: Sequence[float]) -> str:
    shown = [f"{value:.4f}" for value in values[:_MOST_STEPS]]
    return " ".join([*shown, "…", f"{values[-1]:.4f}"] if len(values) > _MOST_STEPS else shown)
