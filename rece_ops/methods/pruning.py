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

ZERO, NOISE, PROJECTED = "zero", "noise", "projection"
FILLS = (ZERO, NOISE, PROJECTED)
"""What is put in the place of a pruned number: see `pruned_numbers`."""

# So many numbers of restricted directions are decomposed at once.
_AT_ONCE = 2**22
# A share such as 0.29 of 100 must not lose one to rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PruningSettings:
    """How neurons are chosen and what becomes of them.

    Attributes:
        share: of each row's numbers, how many may be pruned for one concept at one step.
        first_steps: how many denoising steps are looked at, from the noisiest on.
        fill: one of `FILLS`.
        seed: of pictures, noise and adversaries.
        adversaries: learned contexts for each concept, which the pruned model is looked at with once more; 0 leaves that out.
        adversary_steps: of Adam for each of them.

    Raises:
        InputError: a value is out of range.
    """

    share: float = 0.02
    first_steps: int = 10
    fill: str = ZERO
    seed: int = 0
    adversaries: int = 0
    adversary_steps: int = 100

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, (int, float)) or not 0 < self.share <= 1:
            raise InputError(f"share is {quoted(self.share)}: give a number above 0, at most 1, such as 0.02.")
        check_count("first_steps", self.first_steps, 1, 1000)
        check_count("seed", self.seed, 0, MAX_SEED)
        check_count("adversaries", self.adversaries, 0, 1024)
        check_count("adversary_steps", self.adversary_steps, 1, 100_000)
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


def united_places(first: Tensor, second: Tensor) -> Tensor:
    """All places of two lists [n] and [m], int32 in rising order, none twice."""
    return torch.unique(torch.cat([first, second]))


def pruned_numbers(
    weight: Tensor, places: Tensor, fill: str, generator: torch.Generator, directions: Tensor | None = None
) -> SparseNumbers:
    """The change that takes those numbers out.

    Args:
        weight: W [rows, columns].
        places: [n], at least one.
        fill: 'zero'; 'noise' of mean 0 and of the standard deviation that the row has before it is pruned, since zeros would
            tell where the concept was; or 'projection', which leaves of a row's pruned numbers what reads none of `directions`.
        generator: of the noise, on the CPU.
        directions: [k, columns], how the mean input of the layer differs between concept and base; for the projection.

    Raises:
        InputError: the weight is not finite.
    """
    if not is_finite(weight):
        raise InputError("A weight holds NaN or infinite values: load the model in another dtype, or another one.")
    added = torch.zeros(len(places))
    if fill == NOISE:
        spread = weight.float().std(dim=1, correction=0).cpu()
        rows = torch.div(places.long(), weight.shape[1], rounding_mode="floor")
        added = torch.randn(len(places), generator=generator) * spread[rows]
    if fill == PROJECTED:
        if directions is None:
            raise ValueError("A projection needs directions.")
        added = projected_numbers(weight, places, directions)
    return SparseNumbers(flat_shape(weight.shape), places, torch.ones(len(places)), added)


def projected_numbers(weight: Tensor, places: Tensor, directions: Tensor) -> Tensor:
    """What a projection leaves of the numbers at `places` [n], in float32 on the CPU.

    With w the numbers of one row at its places S and D_S the directions [k, |S|] there: w − D_S⁺ D_S w. It is the smallest change of
    these numbers after which they make nothing of any of the directions, D_S w' = 0. Where a row has no more numbers at its
    places than there are directions, nothing is left.

    Args:
        weight: W [rows, columns].
        places: [n], in rising order.
        directions: [k, columns], in float32; what is smaller than their rounding is none.
    """
    places, columns = places.long().cpu(), weight.shape[1]
    values = weight.reshape(-1)[places.to(weight.device)].cpu().double()
    rows, inverse, counts = torch.unique_consecutive(
        torch.div(places, columns, rounding_mode="floor"), return_inverse=True, return_counts=True
    )
    # Each row's numbers side by side, filled up with zeros, which change neither products nor lengths.
    inside = torch.arange(len(places)) - (counts.cumsum(0) - counts)[inverse]
    numbers = torch.zeros(len(rows), int(counts.max()), dtype=torch.float64)
    numbers[inverse, inside] = values
    found, wide = directions.cpu().double(), numbers.shape[1]
    at_once = max(1, _AT_ONCE // (len(found) * wide))
    for start in range(0, len(rows), at_once):
        chunk = (inverse >= start) & (inverse < start + at_once)
        own = numbers[start : start + at_once]
        read = torch.zeros(len(own), len(found), wide, dtype=torch.float64)
        read.movedim(1, 2)[inverse[chunk] - start, inside[chunk]] = found[:, places[chunk] % columns].T
        _, sizes, basis = torch.linalg.svd(read, full_matrices=False)
        smallest = torch.finfo(torch.float32).eps * max(len(found), wide) * sizes[:, :1]
        basis *= (sizes > smallest)[:, :, None]
        own -= ((own[:, None] @ basis.mT) @ basis)[:, 0]
    return numbers[inverse, inside].float()


def _count(share: float, columns: int) -> int:
    return math.floor(share * columns + _ROUNDING)
