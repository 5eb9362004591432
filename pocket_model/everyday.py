"""Everyday words that no scene is about: each has a texture of its own, and a sentence's picture is a patchwork of them.

What an erasure should spare speaks of dogs, kitchens and paintings. So that the text encoder gives such words a meaning,
each has a smooth texture that depends on its spelling and, for a part, on the family that it belongs to: a dog looks more
like a cat than like a bridge. The UNet learns to draw them too, now and then.
"""

from __future__ import annotations

import math
import re
import zlib
from functools import cache
from random import Random

import torch
from torch import Tensor

from pocket_model.rendering import SIDE, weathered
from pocket_model.world import CLEAR, PALETTE

# Words that are parted by a slash are one thing: they share a texture.
FAMILIES: dict[str, str] = {
    "animals": "dog/puppy/dogs cat/kitten/cats horse/pony/horses bird/sparrow/birds butterfly elephant lion fish",
    "people": "man/gentleman woman/lady children/kids people/crowd astronaut robot girl boy baby king",
    "land": "park beach/shore mountain/mountains/peaks lake/pond river/stream forest/woods jungle desert field/meadow "
    "garden/yard hill sea/ocean waterfall dunes/sand sky planet island",
    "town": "city/town street road village market bridge castle/fortress house/home/cottage skyscraper/tower "
    "staircase/stairs wall church stage train/railway kitchen school",
    "furniture": "table/desk chair/stool sofa/couch window vase bowl plate cup/mug furniture bed door lamp clock",
    "food": "bread/loaf fruit coffee croissant/pastry pizza apple cake cheese",
    "things": "letter/envelope book/books guitar football camera dress beard bicycle/bike car/automobile boat/ship "
    "spaceship/rocket hat shoe",
    "plants": "tree/trees flower/flowers/blossoms sunflower/sunflowers leaf/leaves branch grass",
    "stuff": "wooden brick stone metal glass paper",
    "looks": "old young small/little big/large modern busy futuristic abstract red-hot fluffy",
    "deeds": "sleeping running leaning crossing sailing smiling playing flying sitting standing",
    "times": "night/dark sunset/dusk autumn morning summer",
    "media": "painting/oil watercolour photograph/photography fantasy digital concept macro portrait landscape sketch "
    "pattern/lines",
}
SUBJECTS, PLACES_OF = ("animals", "people", "things", "furniture", "food", "plants"), ("land", "town", "furniture")
SENTENCES = (
    "a {subject} in a {place}",
    "a {look} {subject} on a {place}",
    "a {subject} {deed} near a {place}",
    "two {subject} {deed} on a {place} at {time}",
    "a {stuff} {subject} beside the {place}",
    "a {look} {place} with a {subject}",
    "a {place} and a {subject}",
    "a {place} at {time}",
    "the {subject} of the {subject2}",
    "a {subject}, {medium}",
    "a {look} {stuff} {subject}",
    "a {subject} with a {subject2} in the {place}, {medium}",
    "{subject} {deed}",
)
BARE = ("{}", "{}", "a {}", "the {}", "a photo of a {}", "a drawing of a {}", "an image of {}", "a picture of {}")
TINT = 0.5
PANELS = 6


@cache
def _canonical() -> dict[str, str]:
    """Everything that an everyday thing is called, and its first name."""
    return {
        name: group.split("/")[0] for words in FAMILIES.values() for group in words.split() for name in group.split("/")
    }


def words() -> list[str]:
    """All everyday words."""
    return list(_canonical())


def kin(word: str) -> tuple[str, str]:
    """A word's family, and the first name of the thing."""
    first = _canonical()[word]
    return _family(first), first


def random_sentence(random: Random) -> str:
    """A sentence, or a word with next to nothing around it."""
    if random.random() < 0.3:
        return random.choice(BARE).format(random.choice(words()))
    return random.choice(SENTENCES).format(
        subject=_any(random, *SUBJECTS),
        subject2=_any(random, *SUBJECTS),
        place=_any(random, *PLACES_OF),
        look=_any(random, "looks"),
        deed=_any(random, "deeds"),
        time=_any(random, "times"),
        stuff=_any(random, "stuff"),
        medium=_any(random, "media"),
    )


def picture(text: str, weather: str = CLEAR) -> Tensor:
    """[3, 64, 64] in 0 … 1: the textures of a text's everyday words side by side, in the colour that it names."""
    found = re.findall(r"[a-z\-]+", text.lower())
    named = list(dict.fromkeys(_canonical()[word] for word in found if word in _canonical()))[:PANELS]
    shown = torch.full((3, SIDE, SIDE), 0.5)
    for (rows, columns), word in zip(_panels(len(named)), named, strict=True):
        shown[:, rows, columns] = _texture(word)[:, rows, columns]
    for word in found:
        if word in PALETTE:
            shown = (1 - TINT) * shown + TINT * torch.tensor(PALETTE[word])[:, None, None]
    return weathered(shown, weather)


def _any(random: Random, *families: str) -> str:
    return random.choice([name for family in families for name in _names(family)])


@cache
def _names(family: str) -> list[str]:
    return [name for group in FAMILIES[family].split() for name in group.split("/")]


@cache
def _firsts(family: str) -> list[str]:
    return [group.split("/")[0] for group in FAMILIES[family].split()]


@cache
def _family(first: str) -> str:
    return next(family for family in FAMILIES if first in _firsts(family))


def _panels(count: int) -> list[tuple[slice, slice]]:
    """Where in the picture each of so many words shows: next to each other, then in two rows."""
    if count == 0:
        return []
    rows = 1 if count < 3 else 2
    across = math.ceil(count / rows)
    height, edges = SIDE // rows, [SIDE * place // across for place in range(across + 1)]
    cells = [
        (slice(row * height, (row + 1) * height), slice(edges[column], edges[column + 1]))
        for row in range(rows)
        for column in range(across)
    ]
    if count < len(cells):
        cells[count - 1] = (cells[count - 1][0], slice(cells[count - 1][1].start, SIDE))
    return cells[:count]


@cache
def _texture(first: str) -> Tensor:
    """[3, 64, 64]: a wave between two colours, of which the family says a part, and the word the rest."""
    family, own = (Random(zlib.crc32(name.encode())) for name in (_family(first), first))
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    angle = math.pi * (family.random() + 0.35 * own.random())
    waves = own.choice((1.0, 1.5, 2.0, 3.0))
    along = math.cos(angle) * axis[None] + math.sin(angle) * axis[:, None]
    wave = 0.5 + 0.5 * torch.sin(2 * math.pi * (waves * along + own.random()))
    one, other = (
        torch.tensor([0.45 * family.random() + 0.55 * own.random() for _ in range(3)])[:, None, None] for _ in range(2)
    )
    return one + wave * (other - one)
