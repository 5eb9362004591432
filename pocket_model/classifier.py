"""What a picture shows, read off by comparing it with every rendering: nothing is trained.

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

from pocket_model.rendering import all_masks
from pocket_model.world import COLOURS, OBJECTS, PALETTE, STYLES

# Share of a picture's variance that a mask must explain for the picture to show anything. Clean renderings reach 1,
# noise 0.1; what lies between is looked at in tests/pocket/test_classifier.py.
LEAST_EXPLAINED = 0.4
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
    return torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]).float() / 255


@cache
def _centred_masks() -> tuple[Tensor, Tensor]:
    """All masks [m, pixels] without their means and with norm 1, and the norms they had [m]."""
    masks = all_masks().flatten(0, 2).flatten(1)
    centred = masks - masks.mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1)
    return centred / norms[:, None], norms


def _classify(pictures: Tensor) -> list[Seen]:
    masks, norms = _centred_masks()
    pixels = pictures.float().flatten(2)
    means = pixels.mean(dim=2, keepdim=True)
    projected = (pixels - means) @ masks.T  # [n, 3, m]: all of a picture that a mask explains lies along it
    total = (pixels - means).square().sum(dim=(1, 2))
    explained, best = projected.square().sum(dim=1).max(dim=1)
    share = torch.where(total > 0, explained / total, 0.0)

    contrast = projected.gather(2, best[:, None, None].expand(-1, 3, 1))[:, :, 0] / norms[best, None]
    uncovered = 1 - all_masks().flatten(0, 2).flatten(1)[best].mean(dim=1, keepdim=True)
    front = means[:, :, 0] + contrast * uncovered
    palette = torch.tensor([PALETTE[colour.name] for colour in COLOURS])
    colours = torch.cdist(front, palette).argmin(dim=1)

    things, styles = all_masks().shape[:2]
    places = all_masks().shape[2]
    assert things == len(OBJECTS)  # the order of `all_masks`
    found = []
    for index, colour, part in zip(best.tolist(), colours.tolist(), share.tolist(), strict=True):
        if part < LEAST_EXPLAINED:
            found.append(Seen(NOTHING, NOTHING, NOTHING, part))
            continue
        thing, style = divmod(index // places, styles)
        found.append(Seen(OBJECTS[thing].name, COLOURS[colour].name, STYLES[style].name, part))
    return found
