"""Equal tokens once, with a weight: the padding of T5 and of language models, and what every prompt begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import torch
from torch import Tensor

Parts: TypeAlias = Sequence[tuple[int, slice]]
"""Parts of prompts: the number of a prompt, and which of its tokens."""

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

    def within(self, parts: Parts) -> EqualTokens:
        """The same of parts of the prompts."""
        groups = [self.group[number][tokens] for number, tokens in parts]
        return _grouped(torch.cat(groups), [len(group) for group in groups])

    def first(self) -> tuple[Tensor, ...]:
        """By prompt, which of its tokens are the first of their group, bool [n]."""
        groups = torch.cat(self.group)
        positions = torch.arange(len(groups))
        first = torch.full((self.count,), len(groups)).scatter_reduce_(0, groups, positions, "amin")
        return torch.split(positions == first[groups], [len(group) for group in self.group])


def equal_tokens(prompts: Sequence[Tensor]) -> EqualTokens:
    """Groups of equal tokens over `prompts` (each [n, d], at least one).

    Tokens are compared as numbers: dtypes and devices may differ. Those that agree where they are looked at are compared in full
    with the first of them; only where that finds a difference, the others are told apart by 64-bit sums over their bits.
    """
    lengths = [len(tokens) for tokens in prompts]
    step = max(prompts[0].shape[1] // _LOOKED_AT, 1)
    keys = torch.cat([_fingerprints(tokens[:, ::step]) for tokens in prompts])
    found = _grouped(keys, lengths)
    if found.count == len(keys) or step == 1:
        return found
    different = torch.cat(_differ_from_first(prompts, found))
    if bool(different.any()):
        in_full = [
            _fingerprints(tokens[mine.to(tokens.device)])
            for tokens, mine in zip(prompts, torch.split(different, lengths), strict=True)
        ]
        # Of the two fingerprints of such a token the sum is as good as both.
        keys[different] += torch.cat(in_full)
        found = _grouped(keys, lengths)
    return found


def _grouped(keys: Tensor, lengths: Sequence[int]) -> EqualTokens:
    values, group = torch.unique(keys, return_inverse=True)
    return EqualTokens(torch.split(group, list(lengths)), len(values))


def _differ_from_first(prompts: Sequence[Tensor], found: EqualTokens) -> list[Tensor]:
    """By prompt, which of its tokens are not equal to the first of their group, bool [n]."""
    first = found.first()
    shared = torch.bincount(torch.cat(found.group)) > 1
    place = torch.cumsum(shared, 0) - 1
    chosen = [mask & shared[group] for mask, group in zip(first, found.group, strict=True)]
    dtype = reduce(torch.promote_types, (tokens.dtype for tokens in prompts))
    samples = torch.empty(int(shared.sum()), prompts[0].shape[1], dtype=dtype)
    for tokens, mask, group in zip(prompts, chosen, found.group, strict=True):
        samples[place[group[mask]]] = tokens[mask.to(tokens.device)].cpu().to(dtype)
    different = []
    for tokens, mask, group in zip(prompts, first, found.group, strict=True):
        rest = ~mask
        mine = tokens[rest.to(tokens.device)].cpu().to(dtype)
        differs = torch.zeros_like(rest)
        differs[rest] = (mine != samples[place[group[rest]]]).any(dim=1)
        different.append(differs)
    return different


def _fingerprints(tokens: Tensor) -> Tensor:
    """A number for each token of [n, d], int64 [n], that depends on all its numbers."""
    # Plus zero, for −0 and 0 are equal. The CPU has float64 wherever the tokens are.
    bits = (tokens.cpu().double() + 0.0).view(torch.int64)
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator) * 2 + 1
    mixed = (bits ^ (bits >> 29)) * factors
    return (mixed ^ (mixed >> 32)).sum(dim=1)
