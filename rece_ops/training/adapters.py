"""Adapters that are trained: one after every cross-attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..adapters import Adapter, Adapters, named_tensors


class TrainedAdapters:
    """Adapters in float32 that add nothing at first: what writes is zero, what reads is drawn as `nn.Linear` draws it.

    Args:
        dimensions: of the tokens after each layer, by its name.
        width: of every adapter.
        generator: draws what reads, on the CPU.
        device: where they live.
    """

    def __init__(
        self, dimensions: Mapping[str, int], width: int, generator: torch.Generator, device: torch.device
    ) -> None:
        self.adapters: dict[str, Adapter] = {}
        for layer, dimension in dimensions.items():
            # Uniform up to 1/√d, weight and bias alike.
            drawn = (torch.rand(width, dimension + 1, generator=generator) * 2 - 1) / math.sqrt(dimension)
            tensors = drawn[:, :-1], drawn[:, -1], torch.zeros(dimension, width), torch.zeros(dimension)
            self.adapters[layer] = Adapter(*(nn.Parameter(one.contiguous().to(device)) for one in tensors))

    def parameters(self) -> Iterator[Tensor]:
        """All tensors, in order."""
        for adapter in self.adapters.values():
            yield from adapter

    def named(self) -> dict[str, Tensor]:
        """All tensors by the name of the layer and their own."""
        return named_tensors(self.adapters)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values of `named`; names and sizes must be the same."""
        for name, tensor in self.named().items():
            tensor.copy_(tensors[name])

    def part(self) -> Adapters:
        """The adapters as a part of an eraser, a copy on the CPU."""
        return Adapters(
            {
                layer: Adapter(*(tensor.detach().cpu().clone() for tensor in adapter))
                for layer, adapter in self.adapters.items()
            }
        )
