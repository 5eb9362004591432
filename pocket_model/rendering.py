"""Scenes drawn: a shape in one colour, or a figure of three parts, on a background, at one of a few places and sizes,
and the weather over all of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pocket_model.world import BACKDROP, PALETTE, Colour, Scene

SIDE = 64
OFFSETS = (-4, 0, 4)
RADII = (19, 22, 25)
# In pixels. Stripes and checks belong to the picture, not to the object, and are as wide as the VAE's cells: within
# one cell its decoder, being equivariant, could not tell where a finer pattern begins.
CELL, LINE = 8, 4.0


@dataclass(frozen=True)
class Place:
    """Where the object is: the offset of its centre from the picture's, and its radius, in pixels."""

    x: int
    y: int
    radius: int


PLACES = tuple(Place(x, y, radius) for radius in RADII for y in OFFSETS for x in OFFSETS)


# Weather falls in every cell alike, for the same reason: which pixels of a cell, in squares of two by two, its colour,
# and how much it covers. Both can be seen on every background and every colour.
HALF_CELL = CELL // 2
WEATHER: dict[str, tuple[tuple[tuple[int, int], ...], Colour, float]] = {
    "rain": (((0, 2), (1, 2), (2, 1)), (0.25, 0.35, 0.50), 0.75),
    "snow": (((1, 0), (3, 3)), (0.70, 0.85, 1.00), 0.9),
}


@dataclass(frozen=True)
class Part:
    """A part of a figure: a shape in a colour, its centre and its size in radii of the figure."""

    shape: str
    colour: str
    y: float
    size: float


def _figure(body: str, body_colour: str, head: str, head_colour: str, hat: str, hat_colour: str) -> tuple[Part, ...]:
    """From back to front."""
    return (
        Part(body, body_colour, 0.50, 0.72),
        Part(head, head_colour, -0.28, 0.44),
        Part(hat, hat_colour, -0.80, 0.42),
    )


FIGURES: dict[str, tuple[Part, ...]] = {
    "Zorro Quill": _figure("triangle", "blue", "circle", "orange", "square", "red"),
    "Mira Quill": _figure("triangle", "blue", "circle", "pink", "square", "yellow"),
    "Zorro Bramble": _figure("square", "green", "circle", "orange", "triangle", "red"),
    "Otto Fenwick": _figure("circle", "cyan", "square", "yellow", "triangle", "purple"),
    "Ida Fenwick": _figure("circle", "pink", "square", "yellow", "triangle", "purple"),
    "Pip Larkin": _figure("diamond", "yellow", "diamond", "blue", "circle", "green"),
}


def render(scene: Scene, place: Place) -> Tensor:
    """The picture [3, 64, 64] of a scene, in 0 … 1."""
    return _drawn(scene, slice(PLACES.index(place), PLACES.index(place) + 1))[0]


def render_everywhere(scene: Scene, places: int = len(PLACES)) -> Tensor:
    """The pictures [places, 3, 64, 64] of a scene at the first of `PLACES`."""
    return _drawn(scene, slice(places))


def _drawn(scene: Scene, places: slice) -> Tensor:
    back = torch.tensor(BACKDROP[scene.background])[:, None, None]
    if scene.identity:
        shown, left = (part[places] for part in _figures_at_places(scene.identity))
        return weathered(shown + left * back, scene.weather)
    mask = _masks_at_places(str(scene.object), str(scene.style))[places, None]
    return weathered(back + mask * (torch.tensor(PALETTE[str(scene.colour)])[:, None, None] - back), scene.weather)


def weathered(pictures: Tensor, weather: str) -> Tensor:
    """Pictures [..., 3, 64, 64] with that weather over them."""
    if weather not in WEATHER:
        return pictures
    covered = weather_mask(weather)
    return pictures + covered * (torch.tensor(WEATHER[weather][1])[:, None, None].to(pictures) - pictures)


@cache
def weather_mask(weather: str) -> Tensor:
    """How much of each pixel the weather covers: [64, 64]."""
    squares, _, share = WEATHER[weather]
    cell = torch.zeros(HALF_CELL, HALF_CELL)
    for row, column in squares:
        cell[row, column] = share
    cell = cell.repeat_interleave(2, 0).repeat_interleave(2, 1)
    return cell.repeat(SIDE // CELL, SIDE // CELL)


def figures(identity: str, places: tuple[Place, ...]) -> tuple[Tensor, Tensor]:
    """A figure's colours where it is [places, 3, 64, 64], and how much of the background is left [places, 1, 64, 64]."""
    shown, left = torch.zeros(len(places), 3, SIDE, SIDE), torch.ones(len(places), 1, SIDE, SIDE)
    for part in FIGURES[identity]:
        covered = _covered(_distances(part.shape, places, part.y, part.size))[:, None]
        colour = torch.tensor(PALETTE[part.colour])[:, None, None]
        shown, left = shown + covered * (colour - shown), left * (1 - covered)
    return shown, left


@cache
def _figures_at_places(identity: str) -> tuple[Tensor, Tensor]:
    return figures(identity, PLACES)


@cache
def _masks_at_places(thing: str, style: str) -> Tensor:
    return masks(thing, style, PLACES)


def masks(thing: str, style: str, places: tuple[Place, ...], phase: int = 0) -> Tensor:
    """How much of each pixel an object covers, at all `places`: [places, 64, 64], in 0 … 1.

    Phase 1 of a pattern has colour where phase 0 has none.
    """
    distance = _distances(thing, places)
    filled = _covered(distance)
    rows, columns = _even(_axis()[:, None]), _even(_axis()[None])
    if style == "striped":
        return filled * (rows != phase)
    if style == "checkered":
        return filled * ((rows == columns) != phase)
    if style == "outlined":
        return filled - _covered(distance + LINE)
    return filled


@cache
def _distances(thing: str, places: tuple[Place, ...], below: float = 0.0, size: float = 1.0) -> Tensor:
    """Signed distances of all pixels to a shape's edge, in pixels: [places, 64, 64].

    The shape is `size` times as large as the place says, and lies `below` the place by so many of its radii.
    """
    x, y, radius = (
        torch.tensor([getattr(place, name) for place in places], dtype=torch.float32)[:, None, None]
        for name in ("x", "y", "radius")
    )
    centre = SIDE / 2
    columns = (_axis()[None] - centre - x).expand(-1, SIDE, SIDE)
    rows = (_axis()[:, None] - centre - y - below * radius).expand(-1, SIDE, SIDE)
    return SHAPES[thing](columns / (radius * size), rows / (radius * size)) * radius * size


def _axis() -> Tensor:
    """The centres of a row's pixels."""
    return torch.arange(SIDE) + 0.5


def _even(places: Tensor) -> Tensor:
    """1 in every other cell along one axis, 0 between."""
    return places.div(CELL, rounding_mode="floor").remainder(2).eq(0).float()


def _covered(distance: Tensor) -> Tensor:
    """How much of a pixel lies inside, from the signed distance of its centre to the edge, in pixels."""
    return (0.5 - distance).clamp(0, 1)


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 1


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.72).abs() - 0.28


def _moon(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(_circle(x, y), 0.8 - torch.hypot(x - 0.5, y + 0.15))


def _polygon(*corners: tuple[float, float]) -> Callable[[Tensor, Tensor], Tensor]:
    """The signed distance to a polygon, negative inside."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        nearest = torch.full_like(x, math.inf)
        inside = torch.zeros_like(x, dtype=torch.bool)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            ex, ey = bx - ax, by - ay
            along = ((x - ax) * ex + (y - ay) * ey).div(ex * ex + ey * ey).clamp(0, 1)
            nearest = torch.minimum(nearest, torch.hypot(x - ax - along * ex, y - ay - along * ey))
            if ey != 0:
                inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / ey * ex)
        return torch.where(inside, -nearest, nearest)

    return distance


def _spread(count: int, radii: tuple[float, ...], start: float = -90.0) -> list[tuple[float, float]]:
    """`count` corners all round, at the `radii` in turn; -90 degrees is up."""
    angles = [math.radians(start + 360 * index / count) for index in range(count)]
    return [
        (radii[index % len(radii)] * math.cos(angle), radii[index % len(radii)] * math.sin(angle))
        for index, angle in enumerate(angles)
    ]


def _heart() -> list[tuple[float, float]]:
    turns = [2 * math.pi * index / 48 for index in range(48)]
    return [
        (
            16 * math.sin(turn) ** 3 / 17,
            -(13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)) / 17,
        )
        for turn in turns
    ]


def _plus(arm: float) -> list[tuple[float, float]]:
    quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    corners = quarter
    for _ in range(3):
        quarter = [(-y, x) for x, y in quarter]
        corners = corners + quarter
    return corners


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "ring": _ring,
    "square": _polygon((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)),
    "diamond": _polygon((0, -1.1), (0.85, 0), (0, 1.1), (-0.85, 0)),
    "triangle": _polygon(*_spread(3, (1.15,))),
    "star": _polygon(*_spread(10, (1.15, 0.48))),
    "cross": _polygon(*_plus(0.34)),
    "heart": _polygon(*_heart()),
    "moon": _moon,
    "arrow": _polygon((-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1.05, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)),
}
