"""What a pruning did, in words."""

from __future__ import annotations

from ..host.jobs.prune import Pruned
from ..request.pruning_request import PruningRequest

_SMALL = 0.05
"""A drift of the concept's predictions below this is less than another seed makes."""


def pruning_report(request: PruningRequest, pruned: Pruned) -> str:
    """What was pruned where, how far predictions moved, and what to think of it."""
    taken, of = (sum(side) for side in zip(*pruned.counts.values(), strict=True))
    count, fill = len(request.concepts), request.settings.fill
    filled = "" if fill == "zero" else f", {fill} of the row's spread in their place"
    lines = [
        f"Pruned {count} concept{'s' if count > 1 else ''}: {taken:,} of {of:,} numbers ({taken / of:.2%}) of the feed-forward "
        f"output layers{filled}, found on {pruned.pairs} pairs of pictures, {pruned.seconds:.0f} s on {pruned.device.type}.",
        "By block: " + ", ".join(f"{block} {own / whole:.2%}" for block, (own, whole) in pruned.counts.items()) + ".",
        "Predictions moved by "
        f"{pruned.drifts['concept']:.1%} for the concept, {pruned.drifts['base']:.1%} for its base, "
        f"{pruned.drifts['held-out']:.1%} for everyday prompts.",
    ]
    if pruned.drifts["concept"] < _SMALL:
        lines.append("Warning: The concept's predictions hardly moved: raise 'share' or 'first_steps'.")
    lines.append(
        "Note: No figure here says that the concept is gone. Look at pictures with 'Compare Erasure', and attack it with 'Invert "
        "Concept'."
    )
    return "\n".join(lines)
