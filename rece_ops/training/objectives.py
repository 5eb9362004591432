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
