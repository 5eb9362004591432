"""ConceptPrune (Chavhan et al., arXiv:2405.19237): the numbers of feed-forward layers that a concept uses, taken out.

The score of a number W_ij of a layer's output weight is that of Wanda (arXiv:2306.11695), |W_ij|·‖a_j‖, where ‖a_j‖ is the norm
of the j-th input of the weight over all tokens of many pictures, each token scaled to length 1. A number is pruned if, at some
denoising step, its score for the concept is among the top share of its row and larger than for the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..linear.finite import is_finite
from ..settings import MAX_SEED, check_count
from ..sparse_change import SparseNumbers, flat_shape
from ..texts import quoted

FILLS = ("zero", "noise")
"""What is put in the place of a pruned number."""

# A share such as 0.29 of 100 must not lose one to rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PruningSettings:
    """How neurons are chosen and what becomes of them.

    Attributes:
        share: of each row's numbers, how many may be pruned for one concept at one step.
        first_steps: how many denoising steps are looked at, from the noisiest on.
        fill: one of `FILLS`; noise has the spread of the row.
        seed: of pictures and noise.

    Raises:
        InputError: a value is out of range.
    """

    share: float = 0.02
    first_steps: int = 10
    fill: str = FILLS[0]
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, (int, float)) or not 0 < self.share <= 1:
            raise InputError(f"share is {quoted(self.share)}: give a number above 0, at most 1, such as 0.02.")
        check_count("first_steps", self.first_steps, 1, 1000)
        check_count("seed", self.seed, 0, MAX_SEED)
        if self.fill not in FILLS:
            raise InputError(f"fill is {quoted(self.fill)}: take one of {', '.join(FILLS)}.")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, for provenance."""
        return asdict(self)


class PairedNorms(NamedTuple):
    """Norms of a layer's inputs [steps, columns], with the concept in the prompts and with its base."""

    concept: Tensor
    base: Tensor


def check_share(share: float, columns: Mapping[str, int]) -> None:
    """Raise InputError where a share of a row is less than one number."""
    for key, count in columns.items():
        if _count(share, count) < 1:
            raise InputError(
                f"share is {share}, which is less than one of the {count} numbers that a row of {quoted(key)} has: give "
                f"{1 / count:.2g} or more."
            )


def pruned_places(weight: Tensor, norms: Sequence[PairedNorms], share: float) -> Tensor:
    """The places [n] of a weight's numbers that are pruned, int32 in rising order, united over concepts and steps.

    Args:
        weight: W [rows, columns].
        norms: of each concept.
        share: of each row's numbers, one at least.
    """
    sizes = weight.abs()
    chosen = torch.zeros_like(sizes, dtype=torch.bool)
    count = _count(share, weight.shape[1])
    for pair in norms:
        for own, other in zip(pair.concept.to(sizes), pair.base.to(sizes), strict=True):
            scores = sizes * own
            top = torch.zeros_like(chosen).scatter_(1, scores.topk(count, dim=1).indices, True)
            chosen |= top & (scores > sizes * other)
    return chosen.flatten().nonzero().flatten().to("cpu", torch.int32)


def pruned_numbers(weight: Tensor, places: Tensor, fill: str, generator: torch.Generator) -> SparseNumbers:
    """The change that takes those numbers out.

    Args:
        weight: W [rows, columns].
        places: [n], at least one.
        fill: 'zero', or 'noise' of mean 0 and of the standard deviation that the row has before it is pruned: zeros would tell
            where the concept was.
        generator: of the noise, on the CPU.

    Raises:
        InputError: the weight is not finite.
    """
    if not is_finite(weight):
        raise InputError("A weight holds NaN or infinite values: load the model in another dtype, or another one.")
    added = torch.zeros(len(places))
    if fill == "noise":
        spread = weight.float().std(dim=1, correction=0).cpu()
        rows = torch.div(places.long(), weight.shape[1], rounding_mode="floor")
        added = torch.randn(len(places), generator=generator) * spread[rows]
    return SparseNumbers(flat_shape(weight.shape), places, torch.ones(len(places)), added)


def _count(share: float, columns: int) -> int:
    return math.floor(share * columns + _ROUNDING)
