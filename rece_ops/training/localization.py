"""Where in a picture a concept is, by its tokens' cross-attention, and how much adapters add elsewhere (arXiv:2311.17717).

The published code takes the maps of 16×16 tokens, which 512×512 pixels have. Pictures of other sizes and shapes have others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import InputError

Grid = tuple[int, int]
"""Height and width of what a cross-attention's tokens are laid out in."""

# How much coarser than the latents the maps of the published code are, and the fewest tokens that tell where something is.
_COARSER = 4
_FEWEST = 64


def grid_of(tokens: int, latent: Grid) -> Grid:
    """How `tokens` lie in a UNet whose every level halves height and width, rounded up.

    Raises:
        InputError: no level of such a UNet has so many.
    """
    height, width = latent
    while True:
        if height * width == tokens:
            return height, width
        if max(height, width) <= 1 or height * width < tokens:
            raise InputError(
                f"A cross-attention of this MODEL has {tokens} tokens, which no level of a picture of {latent[1]}×{latent[0]} latents "
                "has: connect the MODEL before what changes its inner sizes, or set another 'size'."
            )
        height, width = -(-height // 2), -(-width // 2)


def mask_grid(grids: Iterable[Grid], latent: Grid) -> Grid:
    """The grid whose maps make the mask: a quarter of the latents each way, or what is nearest to it among those of 64 tokens or more.

    Where all are smaller, it is the largest.
    """
    known = sorted(set(grids), key=lambda grid: grid[0] * grid[1])
    fine = [grid for grid in known if grid[0] * grid[1] >= _FEWEST] or known[-1:]
    wanted = latent[0] * latent[1] / _COARSER**2
    return min(fine, key=lambda grid: max(grid[0] * grid[1] / wanted, wanted / (grid[0] * grid[1])))


def attention_share(queries: Tensor, keys: Tensor, heads: int, places: slice) -> Tensor:
    """The share of each token's cross-attention that the text's tokens at `places` get, [b, tokens]: mean over heads and places.

    Args:
        queries: [b, tokens, heads·e].
        keys: [b, n, heads·e] of the text.
        heads: how many there are.
        places: of the concept's tokens among the n.
    """
    query, key = (one.float().reshape(*one.shape[:2], heads, -1).transpose(1, 2) for one in (queries, keys))
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
    return scores.softmax(dim=3)[..., places].mean(dim=(1, 3))


def concept_mask(maps: Sequence[Tensor], grid: Grid, threshold: float) -> Tensor:
    """1 where the concept is, else 0, [b, 1, height, width].

    Each picture's mean map goes from 0 to 1, and counts from the threshold on. A constant map says nothing about where the concept
    is, so that it is everywhere and nothing is held; the published code comes to the same by way of a NaN.

    Args:
        maps: [b, tokens], shares of attention that the concept's tokens get, of every layer with that grid.
        grid: their layout.
        threshold: from 0 to 1.
    """
    mean = torch.stack(list(maps)).mean(dim=0)
    low, high = mean.amin(dim=1, keepdim=True), mean.amax(dim=1, keepdim=True)
    found = mean - low >= threshold * (high - low)
    return found.to(mean.dtype).reshape(-1, 1, *grid)


def localized_loss(outputs: Mapping[Grid, Sequence[Tensor]], mask: Tensor) -> Tensor:
    """Mean over the layers of Σ(1 − M)·mean(o²) / Σ(1 − M): what adapters add where the concept is not.

    Args:
        outputs: o [b, tokens, d] of every adapter, by the layout of the tokens.
        mask: M [b, 1, height, width]; it is brought to each layout by the nearest place.
    """
    found = []
    for grid, layers in outputs.items():
        elsewhere = 1 - torch.nn.functional.interpolate(mask, grid, mode="nearest").flatten(1)
        for output in layers:
            squares = output.square().mean(dim=2) * elsewhere
            found.append(squares.sum() / elsewhere.sum().clamp(min=1))
    return torch.stack(found).mean()
