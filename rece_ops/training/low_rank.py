"""The trained change itself: two factors for every weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..linear.finite import is_finite
from ..weight_change import LowRank, WeightChange


class TrainedFactors:
    """up @ down for every weight, in float32, zero at first (Hu et al., LoRA, arXiv:2106.09685).

    Args:
        shapes: of the weights, by their state-dict keys; [out, in] or [out, in, height, width].
        rank: at most; no change has more than its weight.
        generator: draws the `down` factors, on the CPU.
        device: where they live.
    """

    def __init__(
        self, shapes: Mapping[str, Sequence[int]], rank: int, generator: torch.Generator, device: torch.device
    ) -> None:
        self.pairs: dict[str, LowRank] = {}
        for key, shape in shapes.items():
            rows, columns = shape[0], math.prod(shape[1:])
            held = min(rank, rows, columns)
            drawn = torch.randn(held, columns, generator=generator) / math.sqrt(columns)
            self.pairs[key] = LowRank(
                nn.Parameter(torch.zeros(rows, held, device=device)), nn.Parameter(drawn.to(device))
            )

    def parameters(self) -> Iterator[Tensor]:
        """All factors, in order."""
        for up, down in self.pairs.values():
            yield up
            yield down

    def tensors(self) -> dict[str, Tensor]:
        """Copies of all factors on the CPU, by the key of the weight and the factor's name."""
        return {
            f"{key}/{name}": factor.detach().cpu().clone()
            for key, pair in self.pairs.items()
            for name, factor in pair._asdict().items()
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values that `tensors` gave; names and sizes must be the same."""
        for key, pair in self.pairs.items():
            for name, factor in pair._asdict().items():
                factor.copy_(tensors[f"{key}/{name}"])

    def is_finite(self) -> bool:
        """Whether no factor holds NaN or infinity."""
        return all(is_finite(factor) for factor in self.parameters())

    def change(self) -> WeightChange:
        """The change as a part of an eraser, a copy on the CPU, balanced between the two factors."""
        found = {}
        for key, (up, down) in self.pairs.items():
            found[key] = LowRank(up.detach().cpu().clone(), down.detach().cpu().clone())
        return WeightChange(found)
