"""Adversarial contexts that are learned while the weights are trained against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

# A start, and how many of its tokens are learned: an attacker may have one word or the whole prompt.
TOKENS = (1, 2, 4, 8, 16, 32, 76)
# After so many updates an adversary has found what it can, and a new one begins elsewhere.
SHORTEST_LIFE, LONGEST_LIFE = 60, 300
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class AdversaryPool:
    """Contexts [n, blocks, d], of each of which the tokens 1 to k are learned by Adam; the first token stays.

    Every block that reads the text has a context of its own (as in extended textual inversion, arXiv:2303.09522): what a prompt
    can do they can, and it is found in fewer updates. Every adversary has a life of its own: a start (one of `starts`, the same
    in all blocks), a number k of learned tokens, and a number of updates after which it is replaced by a new one.

    Args:
        starts: [m, n, d], the contexts that they begin from.
        size: how many adversaries there are.
        blocks: how many blocks read contexts of their own.
        rate: learning rate, relative to the root mean square of the start.
        generator: draws their lives, on the CPU.

    Attributes:
        contexts: [size, n, blocks, d] as they stand.
    """

    def __init__(self, starts: Tensor, size: int, blocks: int, rate: float, generator: torch.Generator) -> None:
        self._starts, self._rate = starts, rate
        tokens, dimension = starts.shape[1:]
        self.contexts = starts.new_zeros(size, tokens, blocks, dimension)
        self._first, self._second = torch.zeros_like(self.contexts), torch.zeros_like(self.contexts)
        # Updates so far, updates to live, learned tokens, start.
        self._lives = torch.zeros(size, 4)
        # Which tokens of each are learned, and by what rate.
        self._learned, self._rates = starts.new_zeros(size, tokens, 1, 1), starts.new_zeros(size, 1, 1, 1)
        for place in range(size):
            self._begin(place, generator)

    def __len__(self) -> int:
        return len(self.contexts)

    def update(self, places: Tensor, gradients: Tensor, generator: torch.Generator) -> None:
        """One step of Adam down the `gradients` [b, n, blocks, d] of the contexts at `places` [b], no place twice.

        Those whose life is over are replaced instead. A gradient that is not finite counts as none.
        """
        over = self._lives[places, 0] >= self._lives[places, 1]
        for place in places[over].tolist():
            self._begin(place, generator)
        self._lives[places, 0] += 1
        kept = places.to(self.contexts.device)
        alive = (~over).to(self.contexts)[:, None, None, None] * self._learned[kept]
        slopes = gradients.to(self.contexts).nan_to_num(0.0, 0.0, 0.0)
        first = torch.lerp(self._first[kept], slopes, 1 - _BETAS[0]) * alive
        second = torch.lerp(self._second[kept], slopes.square(), 1 - _BETAS[1]) * alive
        updates = self._lives[places, 0].to(self.contexts)[:, None, None, None]
        mean, spread = (m / (1 - beta**updates) for m, beta in zip((first, second), _BETAS, strict=True))
        self.contexts[kept] -= self._rates[kept] * alive * mean / (spread.sqrt() + _EPSILON)
        self._first[kept], self._second[kept] = first, second

    @contextmanager
    def kept_on_error(self) -> Iterator[None]:
        """Where it ends with an error or Cancel, everything is as it was at the beginning."""
        before = self.tensors()
        try:
            yield
        except BaseException:
            self.load(before)
            raise

    def tensors(self) -> dict[str, Tensor]:
        """Copies of everything that is learned, on the CPU."""
        held = {
            "contexts": self.contexts,
            "first moments": self._first,
            "second moments": self._second,
            "lives": self._lives,
        }
        return {name: tensor.to("cpu", copy=True) for name, tensor in held.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values that `tensors` gave of a pool of the same size."""
        self.contexts.copy_(tensors["contexts"])
        self._first.copy_(tensors["first moments"])
        self._second.copy_(tensors["second moments"])
        self._lives.copy_(tensors["lives"])
        for place in range(len(self)):
            self._place_start(place)

    def _begin(self, place: int, generator: torch.Generator) -> None:
        start = int(torch.randint(len(self._starts), (1,), generator=generator))
        fitting = [count for count in TOKENS if count < self._starts.shape[1]] or [1]
        tokens = fitting[int(torch.randint(len(fitting), (1,), generator=generator))]
        life = int(torch.randint(SHORTEST_LIFE, LONGEST_LIFE + 1, (1,), generator=generator))
        self._lives[place] = torch.tensor([0.0, life, tokens, start])
        self.contexts[place] = self._starts[start][:, None]
        self._first[place], self._second[place] = 0.0, 0.0
        self._place_start(place)

    def _place_start(self, place: int) -> None:
        _, _, tokens, start = (int(value) for value in self._lives[place])
        self._learned[place] = 0.0
        self._learned[place, 1 : 1 + tokens] = 1.0
        self._rates[place] = self._rate * self._starts[start].square().mean().sqrt()
