"""Equal tokens once, with a weight: the padding of T5 and of language models, and what every prompt begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# So many numbers of a token tell most tokens apart; those that share them are compared in full.
_LOOKED_AT = 16


@dataclass(frozen=True, eq=False)
class EqualTokens:
    """Which tokens of some prompts are equal to which.

    Attributes:
        group: by prompt, the number of the group of each of its tokens, int64 [n]; groups are numbered from 0.
        count: how many groups there are.
    """

    group: tuple[Tensor, ...]
    count: int

    def first(self) -> tuple[Tensor, ...]:
        """By prompt, which of its tokens are the first of their group, bool [n]."""
        groups = torch.cat(self.group)
        positions = torch.arange(len(groups))
        first = torch.full((self.count,), len(groups)).scatter_reduce_(0, groups, positions, "amin")
        return torch.split(positions == first[groups], [len(group) for group in self.group])


def equal_tokens(prompts: Sequence[Tensor]) -> EqualTokens:
    """Groups of equal tokens over `prompts` (each [n, d], at least one), by 64-bit sums over their bits.

    Tokens are compared as numbers: dtypes and devices may differ. Two different tokens pass for equal with a chance of
    2^-64.
    """
    lengths = [len(tokens) for tokens in prompts]
    step = max(prompts[0].shape[1] // _LOOKED_AT, 1)
    keys = torch.cat([_fingerprints(tokens[:, ::step]) for tokens in prompts])
    _, group, count = torch.unique(keys, return_inverse=True, return_counts=True)
    shared = count[group] > 1
    if bool(shared.any()):
        in_full = [
            _fingerprints(tokens[mine.to(tokens.device)])
            for tokens, mine in zip(prompts, torch.split(shared, lengths), strict=True)
            if bool(mine.any())
        ]
        # Of the two fingerprints of a shared token the sum is as good as both.
        keys = keys.clone()
        keys[shared] += torch.cat(in_full)
        _, group, count = torch.unique(keys, return_inverse=True, return_counts=True)
    return EqualTokens(torch.split(group, lengths), len(count))


def _fingerprints(tokens: Tensor) -> Tensor:
    """A number for each token of [n, d], int64 [n], that depends on all its numbers."""
    # Plus zero, for −0 and 0 are equal. The CPU has float64 wherever the tokens are.
    bits = (tokens.cpu().double() + 0.0).view(torch.int64)
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator) * 2 + 1
    mixed = (bits ^ (bits >> 29)) * factors
    return (mixed ^ (mixed >> 32)).sum(dim=1)
