"""What a picture shows, read off by comparing it with renderings at many places: nothing is trained.

A rendering of a shape is back + mask·(front − back) with two free colours; one of a figure is its own colours with one
free colour behind. For a given mask the best colours follow by least squares, so what is shown, its style and its place
are those of the rendering that leaves the smallest residual; a shape's colour is the named one nearest to the fitted
front. Weather is left out at first, by comparing the pixels that none ever falls on; then it is the weather that, put
over the rendering that was found, leaves the smallest residual at the other pixels.
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

from pocket_model.rendering import WEATHER, Place, figures, masks, weather_mask
from pocket_model.world import CLEAR, COLOURS, IDENTITIES, OBJECTS, PALETTE, STYLES, Word

# Share of a picture's variance that a rendering must explain for the picture to show anything. Clean ones reach 1,
# noise 0.1; what lies between is looked at in tests/pocket/test_world.py.
LEAST_EXPLAINED = 0.4
# A model's objects lie between the renderings' places, and a little beyond them.
OFFSETS = range(-6, 7, 2)
RADII = (17, 19, 22, 25, 27)
PATTERNS = ("striped", "checkered")
NOTHING = "nothing"
AT_ONCE = 64


@dataclass(frozen=True)
class Seen:
    """What the classifier sees in a picture; each is 'nothing' where it shows none."""

    object: str
    colour: str
    style: str
    weather: str
    identity: str
    explained: float

    def attribute(self, kind: str) -> str:
        """The value of one of `KINDS`."""
        value: str = getattr(self, kind)
        return value


@dataclass(frozen=True)
class _Fit:
    """The best renderings of some pictures [n].

    Attributes:
        residual: squared, over the pixels without weather [n].
        index: of the rendering [n].
        rendered: at all pixels, in the best colours, without weather [n, 3, pixels].
        front: the best colour in front [n, 3].
    """

    residual: Tensor
    index: Tensor
    rendered: Tensor
    front: Tensor


def classify(pictures: Tensor) -> list[Seen]:
    """What pictures [n, 3, 64, 64] in 0 … 1 show."""
    return [seen for batch in torch.split(pictures, AT_ONCE) for seen in _classify(batch)]


def from_pictures(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """[n, 3, 64, 64] in 0 … 1 from pictures [64, 64, 3] in 8 bits."""
    return torch.stack([torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in pictures]).float() / 255


def _classify(pictures: Tensor) -> list[Seen]:
    pixels = _halved(pictures.float())
    dry = pixels[:, :, _dry()]
    total = (dry - dry.mean(dim=2, keepdim=True)).square().sum(dim=(1, 2))
    shape, figure = _fit_shape(pixels, dry, total), _fit_figure(pixels, dry)
    is_figure = figure.residual < shape.residual
    residual = torch.minimum(figure.residual, shape.residual)
    share = torch.where(total > 0, 1 - residual / total, 0.0)
    weather = _weather(pixels, torch.where(is_figure[:, None, None], figure.rendered, shape.rendered))
    palette = torch.tensor([PALETTE[colour.name] for colour in COLOURS])
    colours = torch.cdist(shape.front, palette).argmin(dim=1)
    found = []
    for place, part in enumerate(share.tolist()):
        if part < LEAST_EXPLAINED:
            found.append(Seen(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, part))
        elif is_figure[place]:
            name = _figure_templates()[0][int(figure.index[place])]
            found.append(Seen(NOTHING, NOTHING, NOTHING, weather[place], name, part))
        else:
            thing, style = _shape_templates()[0][int(shape.index[place])]
            found.append(Seen(thing, COLOURS[int(colours[place])].name, style, weather[place], NOTHING, part))
    return found


def _fit_shape(pixels: Tensor, dry: Tensor, total: Tensor) -> _Fit:
    _, covered, centred, norms, means = _shape_templates()
    average = dry.mean(dim=2, keepdim=True)
    projected = (dry - average) @ centred.T  # [n, 3, m]: all of a picture that a template explains lies along it
    explained, best = projected.square().sum(dim=1).max(dim=1)
    contrast = projected.gather(2, best[:, None, None].expand(-1, 3, 1)) / norms[best, None, None]
    behind = average - contrast * means[best, None, None]
    rendered = behind + contrast * covered[best][:, None].float()
    return _Fit(total - explained, best, rendered, (behind + contrast)[:, :, 0])


def _fit_figure(pixels: Tensor, dry: Tensor) -> _Fit:
    """‖p − f − b·l‖² is smallest for the colour behind b = (p − f)·l / l·l."""
    _, shown, left = _figure_templates()
    f, behind = shown[:, :, _dry()], left[:, _dry()]
    norms = behind.square().sum(dim=1)
    difference = (
        dry.square().sum(dim=(1, 2))[:, None] - 2 * dry.flatten(1) @ f.flatten(1).T + f.square().sum(dim=(1, 2))[None]
    )
    along = dry @ behind.T - torch.einsum("mcp,mp->cm", f, behind)[None]  # [n, 3, m]
    residual, best = (difference - (along.square() / norms).sum(dim=1)).min(dim=1)
    back = along.gather(2, best[:, None, None].expand(-1, 3, 1)) / norms[best, None, None]
    return _Fit(residual.clamp(min=0), best, shown[best] + back * left[best][:, None], back[:, :, 0])


def _weather(pixels: Tensor, rendered: Tensor) -> list[str]:
    """The weather of pictures [n, 3, pixels] of which that is shown below it."""
    kinds = [CLEAR, *WEATHER]
    wet = ~_dry()
    missed = []
    for kind in kinds:
        over = rendered
        if kind in WEATHER:
            mask = _halved(weather_mask(kind)[None])[0]
            over = rendered + mask * (torch.tensor(WEATHER[kind][1])[:, None] - rendered)
        missed.append((pixels - over)[:, :, wet].square().sum(dim=(1, 2)))
    return [kinds[index] for index in torch.stack(missed).argmin(dim=0).tolist()]


def _places() -> tuple[Place, ...]:
    return tuple(Place(x, y, radius) for radius in RADII for y in OFFSETS for x in OFFSETS)


@cache
def _shape_templates() -> tuple[list[tuple[str, str]], Tensor, Tensor, Tensor, Tensor]:
    """What each template shows (object and style); all templates [m, pixels], in half precision; those of their pixels
    that stay dry, without their means and with norm 1; the norms that they had [m], and their means [m]."""
    shown = [(thing.name, style.name, phase) for thing in OBJECTS for style, phase in _looks()]
    found = torch.cat([_halved(masks(thing, style, _places(), phase)) for thing, style, phase in shown])
    dry = found[:, _dry()]
    means = dry.mean(dim=1)
    centred = dry - means[:, None]
    norms = centred.norm(dim=1)
    return [one[:2] for one in shown for _ in _places()], found.half(), centred / norms[:, None], norms, means


@cache
def _figure_templates() -> tuple[list[str], Tensor, Tensor]:
    """Whom each template shows; its colours [m, 3, pixels], and how much is left of the background [m, pixels]."""
    parts = [figures(word.name, _places()) for word in IDENTITIES]
    shown, left = (torch.cat([_halved(part[which]) for part in parts]) for which in (0, 1))
    return [word.name for word in IDENTITIES for _ in _places()], shown, left[:, 0]


def _looks() -> list[tuple[Word, int]]:
    """Every style, and every pattern in both phases: which of two cells has colour is no matter of style."""
    return [(style, phase) for style in STYLES for phase in range(2 if style.name in PATTERNS else 1)]


@cache
def _dry() -> Tensor:
    """The pixels that no weather falls on [pixels]."""
    return _halved(sum(weather_mask(kind) for kind in WEATHER)[None])[0] == 0  # type: ignore[index]


def _halved(pictures: Tensor) -> Tensor:
    """[n, …, pixels] of half the side: the finest thing drawn is as wide as two pixels of it, except weather."""
    return functional.avg_pool2d(pictures, 2).flatten(-2)
