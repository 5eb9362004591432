"""What a pruning did, in words."""

from __future__ import annotations

from ...rece_ops.methods.pruning import NOISE, PROJECTED, ZERO
from ..host.jobs.prune import Pruned
from ..request.pruning_request import PruningRequest

_FILLED = {
    ZERO: "",
    NOISE: ", noise of the row's spread in their place",
    PROJECTED: ", of which was left what reads no difference between concept and base",
}
_SMALL = 0.05
"""A drift of the concept's predictions below this is less than another seed makes."""


def pruning_report(request: PruningRequest, pruned: Pruned) -> str:
    """What was pruned where, how far predictions moved, and what to think of it."""
    taken, of = (sum(side) for side in zip(*pruned.counts.values(), strict=True))
    count, fill = len(request.concepts), request.settings.fill
    filled = _FILLED[fill]
    lines = [
        f"Pruned {count} concept{'s' if count > 1 else ''}: {taken:,} of {of:,} numbers ({taken / of:.2%}) of the feed-forward "
        f"output layers{filled}, found on {pruned.pairs} pairs of pictures, {pruned.seconds:.0f} s on {pruned.device.type}.",
        "By block: " + ", ".join(f"{block} {own / whole:.2%}" for block, (own, whole) in pruned.counts.items()) + ".",
        "Predictions moved by "
        f"{pruned.drifts['concept']:.1%} for the concept, {pruned.drifts['base']:.1%} for its base, "
        f"{pruned.drifts['held-out']:.1%} for everyday prompts.",
    ]
    adversaries = request.settings.adversaries
    if adversaries:
        contexts = "learned context" if adversaries == 1 else "learned contexts"
        lines.insert(
            1,
            f"Of these numbers, {pruned.found_by_adversaries:,} were found only with {adversaries} {contexts} for each concept, of "
            f"{request.settings.adversary_steps} updates each.",
        )
    if pruned.drifts["concept"] < _SMALL:
        lines.append("Warning: The concept's predictions hardly moved: raise 'share' or 'first_steps'.")
    lines.append(
        "Note: No figure here says that the concept is gone. Look at pictures with 'Compare Erasure', and attack it with 'Invert "
        "Concept'."
    )
    return "\n".join(lines)
