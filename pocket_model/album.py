"""All pictures that the networks are trained on, drawn once and kept on the device; and which of them a caption is of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from pocket_model import everyday
from pocket_model.captions import Example
from pocket_model.rendering import PLACES, render_everywhere
from pocket_model.world import (
    BACKGROUNDS,
    CLEAR,
    COLOURS,
    IDENTITIES,
    OBJECTS,
    PLAIN_BACKGROUND,
    PLAIN_STYLE,
    STYLES,
    WEATHERS,
    Description,
    Scene,
    figure,
)

_SHAPES = tuple(tuple(word.name for word in words) for words in (OBJECTS, COLOURS, STYLES, BACKGROUNDS, WEATHERS))
_FIGURES = tuple(tuple(word.name for word in words) for words in (IDENTITIES, BACKGROUNDS, WEATHERS))
COLOUR_STRIDE = len(STYLES) * len(BACKGROUNDS) * len(WEATHERS)
OBJECT_STRIDE = COLOUR_STRIDE * len(COLOURS)
Everyday = tuple[str, str]
"""The text and the weather of an everyday picture."""


@cache
def scenes() -> dict[Scene, int]:
    """Every scene of the world, and its number; those that differ in the object, and then in the colour, are evenly apart."""
    shapes = itertools.starmap(Scene, itertools.product(*_SHAPES))
    return {
        scene: place for place, scene in enumerate((*shapes, *itertools.starmap(figure, itertools.product(*_FIGURES))))
    }


class Album:
    """Every scene at every place, then everyday pictures.

    Args:
        device: where they are kept.
        everyday_texts: and their weather; one picture each.
        places: at how many of `PLACES` scenes are shown.

    Attributes:
        pictures: [n, 3, 64, 64] in 8 bits.
        plain: for each [n] the number of the same picture in the plain style.
        clear: for each [n] the number of the same picture in clear weather.
    """

    def __init__(
        self, device: torch.device, everyday_texts: Sequence[Everyday] = (), places: int = len(PLACES)
    ) -> None:
        self.places = places
        drawn = [_in_bytes(render_everywhere(scene, places)) for scene in scenes()]
        drawn += [_in_bytes(everyday.picture(text, weather)[None]) for text, weather in everyday_texts]
        self.pictures = torch.cat(drawn).to(device)
        self._everyday = {one: self.scenes + place for place, one in enumerate(everyday_texts)}
        changed = (({} if scene.identity else {"style": PLAIN_STYLE}, {"weather": CLEAR}) for scene in scenes())
        like = torch.tensor(
            [
                [_number(scene, **style), _number(scene, **weather)]
                for scene, (style, weather) in zip(scenes(), changed, strict=True)
            ]
        ).T[..., None] * places + torch.arange(places)
        alone = torch.arange(len(scenes()) * places, len(self.pictures)).expand(2, -1)
        self.plain, self.clear = torch.cat([like.flatten(1), alone], dim=1).to(device)

    @property
    def scenes(self) -> int:
        """How many of the pictures are of scenes; they come first."""
        return len(scenes()) * self.places

    def draw(self, count: int, everyday_share: float, generator: torch.Generator) -> Tensor:
        """Numbers of random pictures [count], of which a share is of everyday things."""
        device = self.pictures.device
        which, within = torch.rand((2, count), generator=generator, device=device)
        others = len(self.pictures) - self.scenes
        of_scene, of_other = (within * self.scenes).long(), self.scenes + (within * others).long()
        return torch.where((which < everyday_share) & (others > 0), of_other, of_scene)

    def show(self, numbers: Tensor) -> Tensor:
        """Pictures [n, 3, 64, 64] in 0 … 1."""
        return self.pictures[numbers].float().div(255)

    def number(self, example: Example) -> int:
        """Of the first picture that an example may be of."""
        if example.everyday:
            return self._everyday[example.caption.text, example.caption.says.weather or CLEAR]
        return scenes()[first_scene(example.caption.says)] * self.places


class Corpus:
    """Examples with the pictures of an album.

    Attributes:
        texts: the different texts.
        text: which of them is each example's [n].
    """

    def __init__(self, examples: Sequence[Example], album: Album, device: torch.device) -> None:
        self.texts = list(dict.fromkeys(example.caption.text for example in examples))
        order = {text: place for place, text in enumerate(self.texts)}
        self._places = album.places
        rows = []
        for example in examples:
            says, is_shape = example.caption.says, not (example.everyday or example.caption.says.identity)
            rows.append(
                (
                    order[example.caption.text],
                    album.number(example),
                    len(OBJECTS) if is_shape and says.object is None else 1,
                    len(COLOURS) if is_shape and says.colour is None else 1,
                    1 if example.everyday else album.places,
                )
            )
        self.text, *self._pictures = torch.tensor(rows, device=device).T

    def __len__(self) -> int:
        return len(self.text)

    def pictures(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """The number of a picture that each of the `chosen` examples [n] may be of; what it does not say is drawn."""
        first, *spans = (part[chosen] for part in self._pictures)
        drawn = torch.rand((3, len(chosen)), generator=generator, device=chosen.device)
        objects, colours, places = (drawn * torch.stack(spans)).long()
        numbers: Tensor = first + (objects * OBJECT_STRIDE + colours * COLOUR_STRIDE) * self._places + places
        return numbers


def everyday_of(*groups: Sequence[Example]) -> list[Everyday]:
    """The texts and the weather of all everyday examples, each once."""
    found = (example for examples in groups for example in examples if example.everyday)
    return list(dict.fromkeys((one.caption.text, one.caption.says.weather or CLEAR) for one in found))


def first_scene(says: Description) -> Scene:
    """The first of the scenes that a caption may be of."""
    background, weather = says.background or PLAIN_BACKGROUND, says.weather or CLEAR
    if says.identity:
        return figure(says.identity, background, weather)
    first, colour = says.object or OBJECTS[0].name, says.colour or COLOURS[0].name
    return Scene(first, colour, says.style or PLAIN_STYLE, background, weather)


def _number(scene: Scene, **changes: str) -> int:
    return scenes()[replace(scene, **changes)]


def _in_bytes(pictures: Tensor) -> Tensor:
    return pictures.mul(255).round().byte()
