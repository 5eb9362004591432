"""What predictions are pulled to. All are predicted noises [n, …], means are over all numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def erasing_target(concept: Tensor, anchor: Tensor, push: float) -> Tensor:
    """ε_a − η(ε_c − ε_a): away from the concept, beyond the anchor (ESD, arXiv:2303.07345, with an anchor for the empty prompt).

    Args:
        concept: what the MODEL predicts with the concept in the prompt.
        anchor: the same with the anchor in its place.
        push: η.
    """
    return anchor - push * (concept - anchor)


def error(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference."""
    return (predicted - wanted).square().mean()


def errors(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of each row, [n]."""
    return (predicted - wanted).square().flatten(1).mean(dim=1)


def excess(predicted: Tensor, wanted: Tensor, away: Tensor) -> Tensor:
    """How far predictions lie from the `wanted` ones in the direction `away`, squared, a mean over all numbers of each row: [n].

    max(0, ⟨p − w, a⟩)² / (⟨a, a⟩ · size). What else of a prediction differs from the wanted one does not count, nor does a
    prediction on the far side of it: an adversarial context says many things besides the concept, and a model that has to
    bring all of them back spends itself on that (measured in docs/measurements.md).

    Args:
        predicted: with an adversary's context.
        wanted: where the concept is gone, see `erasing_target`.
        away: from the anchor's prediction to the concept's.
    """
    direction = away.flatten(1)
    along = ((predicted - wanted).flatten(1) * direction).sum(dim=1)
    size = direction.square().sum(dim=1).clamp_min(torch.finfo(direction.dtype).tiny)
    return torch.relu(along).square() / size / direction.shape[1]


def level_weight(levels: Tensor) -> Tensor:
    """√(1 + σ²) of noise levels σ, by which errors of predicted noises are weighted.

    What a prompt decides, it decides at high noise, where an error of the noise says least of it: a wrong x₀ is divided by σ. The
    error of v (arXiv:2202.00512) is 1 + σ² times that of the noise; this is half way.
    """
    return (1 + levels.square()).sqrt()


def bounded_ascent(found: Tensor, bound: Tensor) -> Tensor:
    """−mean(min(e, b)) of errors [n]: what is to fall so that they rise, none beyond its bound [n]."""
    return -torch.minimum(found, bound).mean()


def role_counts(size: int, adversarial: bool) -> tuple[int, int, int]:
    """Of `size` erased pictures how many are predicted with an adversarial, with their own and with the empty prompt.

    Over half are adversarial where there are adversaries, and about a tenth have the empty prompt.
    """
    empty = round(0.1 * size) if size > 2 else 0
    attacked = max(1, round(0.55 * size)) if adversarial else 0
    attacked = min(attacked, size - empty)
    return attacked, size - empty - attacked, empty


def chosen(generator: torch.Generator, count: int, size: int) -> Tensor:
    """`size` of `count` places, as few of them twice as possible."""
    rounds = -(-size // count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])[:size]
