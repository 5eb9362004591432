"""What a picture shows, read off by comparing it with renderings at many places: nothing is trained.

A rendering is back + mask·(front − back) with two free colours. For a given mask the best two colours follow by
least squares, so the object, style and place are those of the mask that leaves the smallest residual, whatever the
colours; the colour is then the named one nearest to the fitted front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pocket_model.rendering import Place, masks
from pocket_model.world import COLOURS, OBJECTS, PALETTE, STYLES, Word

# Share of a picture's variance that a mask must explain for the picture to show anything. Clean renderings reach 1,
# noise 0.1; what lies between is looked at in tests/pocket/test_world.py.
LEAST_EXPLAINED = 0.4
# A model's objects lie between the renderings' places, and a little beyond them.
OFFSETS = range(-6, 7, 2)
RADII = (17, 19, 22, 25, 27)
PATTERNS = ("striped", "checkered")
NOTHING = "nothing"


@dataclass(frozen=True)
class Seen:
    """What the classifier sees in a picture; `object`, `colour` and `style` are 'nothing' where it shows none."""

    object: str
    colour: str
    style: str
    explained: float

    def attribute(self, kind: str) -> str:
        """The value of 'object', 'colour' or 'style'."""
        value: str = getattr(self, kind)
        return value


def classify(pictures: Tensor) -> list[Seen]:
    """Object, colour and style of pictures [n, 3, 64, 64] in 0 … 1."""
    return [seen for batch in torch.split(pictures, 64) for seen in _classify(batch)]


def from_pictures(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """[n, 3, 64, 64] in 0 … 1 from pictures [64, 64, 3] in 8 bits."""
    return torch.stack([torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in pictures]).float() / 255


@cache
def _templates() -> tuple[list[tuple[str, str]], Tensor, Tensor, Tensor]:
    """What each template shows (object and style); all templates [m, pixels] without their means and with norm 1; the
    norms that they had [m], and their means [m]."""
    shown = [(thing.name, style.name, phase) for thing in OBJECTS for style, phase in _looks()]
    places = tuple(Place(x, y, radius) for radius in RADII for y in OFFSETS for x in OFFSETS)
    found = torch.cat([_halved(masks(thing, style, places, phase)) for thing, style, phase in shown])
    means = found.mean(dim=1)
    centred = found - means[:, None]
    norms = centred.norm(dim=1)
    return [one[:2] for one in shown for _ in places], centred / norms[:, None], norms, means


def _looks() -> list[tuple[Word, int]]:
    """Every style, and every pattern in both phases: which of two cells has colour is no matter of style."""
    return [(style, phase) for style in STYLES for phase in range(2 if style.name in PATTERNS else 1)]


def _halved(pictures: Tensor) -> Tensor:
    """[n, pixels] of half the side: the finest thing drawn is four pixels wide."""
    return functional.avg_pool2d(pictures, 2).flatten(-2)


def _classify(pictures: Tensor) -> list[Seen]:
    shown, templates, norms, covered = _templates()
    pixels = _halved(pictures.float())
    means = pixels.mean(dim=2, keepdim=True)
    projected = (pixels - means) @ templates.T  # [n, 3, m]: all of a picture that a template explains lies along it
    total = (pixels - means).square().sum(dim=(1, 2))
    explained, best = projected.square().sum(dim=1).max(dim=1)
    share = torch.where(total > 0, explained / total, 0.0)

    contrast = projected.gather(2, best[:, None, None].expand(-1, 3, 1))[:, :, 0] / norms[best, None]
    front = means[:, :, 0] + contrast * (1 - covered[best, None])
    palette = torch.tensor([PALETTE[colour.name] for colour in COLOURS])
    colours = torch.cdist(front, palette).argmin(dim=1)
    return [
        Seen(NOTHING, NOTHING, NOTHING, part)
        if part < LEAST_EXPLAINED
        else Seen(shown[index][0], COLOURS[colour].name, shown[index][1], part)
        for index, colour, part in zip(best.tolist(), colours.tolist(), share.tolist(), strict=True)
    ]
