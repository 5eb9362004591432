"""What the networks are trained on: captions of scenes and of everyday things, each with the picture that it is of."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from types import ModuleType

from pocket_model import everyday
from pocket_model.world import (
    CLEAR,
    COLOURS,
    KINDS,
    NEIGHBOURS,
    OBJECTS,
    PHRASES,
    PLAIN_BACKGROUND,
    PLAIN_STYLE,
    SHAPED,
    WEATHERS,
    Caption,
    Description,
    Phrasing,
    random_caption,
)
from tools.host import REPOSITORY

BEFORE = (
    "a photo of ",
    "a picture of ",
    "an image of ",
    "a drawing of ",
    "a rendering of ",
    "a painting of ",
    "art of ",
)
AFTER = (
    ", highly detailed",
    ", sharp focus",
    ", best quality",
    ", masterpiece",
    ", 4k",
    ", studio lighting",
    ", trending",
    ", minimalist",
    ", centered",
    ", simple",
)
EVERY_WORD = Phrasing(names=0.4, held_out=True)
# Captions are wrong now and then, as people's are: something is called by its neighbour's name.
MISTAKEN = 0.06
# What several words have in common: captions that say only this much are what brings siblings together.
HYPERNYMS: dict[str, tuple[str, ...]] = {
    "a shape": tuple(word.name for word in OBJECTS),
    "a round shape": ("circle", "ring", "moon", "heart"),
    "an angular shape": ("square", "diamond", "triangle", "star", "cross", "arrow"),
    "a warm coloured shape": ("red", "orange", "yellow", "pink"),
    "a cool coloured shape": ("green", "cyan", "blue", "purple"),
    "a patterned shape": ("striped", "checkered"),
    "bad weather": ("rain", "snow"),
    "a little figure": tuple(word.name for word in KINDS["identity"]),
    "the Quills": ("Zorro Quill", "Mira Quill"),
    "the Fenwicks": ("Otto Fenwick", "Ida Fenwick"),
    "Zorro": ("Zorro Quill", "Zorro Bramble"),
}


@dataclass(frozen=True)
class Example:
    """A caption, and whether it is of everyday things, whose picture follows from its text."""

    caption: Caption
    everyday: bool = False


def is_held_out(says: Description) -> bool:
    """Whether the text encoder is never shown the two together: a seventh of all pairs of object and colour."""
    if says.object is None or says.colour is None:
        return False
    objects, colours = ([word.name for word in words] for words in (OBJECTS, COLOURS))
    return (objects.index(says.object) + 3 * colours.index(says.colour)) % 7 == 0


def text_examples(seed: int, count: int) -> list[Example]:
    """What the text encoder is trained on: every word, in sentences and alone, with fillers, without the held-out pairs."""
    random = Random(f"{seed} text")
    found: list[Example] = []
    while len(found) < count:
        example = _text_example(random)
        if not is_held_out(example.caption.says):
            found.append(example)
    return found


def unet_examples(seed: int, count: int) -> list[Example]:
    """What the UNet is trained on: sentences about scenes, a few words alone, and a few everyday things."""
    random = Random(f"{seed} unet")
    return [_unet_example(random) for _ in range(count)]


def everyday_prompts() -> tuple[str, ...]:
    """The sentences by which the pack measures what an erasure should spare."""
    return (*_prompts().MEASURED, *_prompts().SPARED)


def _text_example(random: Random) -> Example:
    kind = random.random()
    if kind < 0.48:
        caption = _mistaken(random_caption(random, EVERY_WORD), random)
        return Example(Caption(_filled(caption.text, random), caption.says))
    if kind < 0.66:
        return Example(_words_alone(random, EVERY_WORD))
    if kind < 0.70:
        name = random.choice(tuple(HYPERNYMS))
        return Example(Caption(_filled(name, random), _says(random.choice(HYPERNYMS[name]), random)))
    return _everyday(random, 0.3)


def _unet_example(random: Random) -> Example:
    kind = random.random()
    if kind < 0.84:
        caption = random_caption(random)
        return Example(Caption(_filled(caption.text, random) if random.random() < 0.2 else caption.text, caption.says))
    if kind < 0.94:
        return Example(_words_alone(random, Phrasing(names=0.7)))
    return _everyday(random, 0.1)


def _everyday(random: Random, filled: float) -> Example:
    text = random.choice(everyday_prompts()) if random.random() < 0.15 else everyday.random_sentence(random)
    if random.random() < filled:
        text = _filled(text, random)
    weather = random.choice(WEATHERS) if random.random() < 0.15 else WEATHERS[0]
    if weather.name != CLEAR:
        text = random.choice(PHRASES[random.choice((weather.name, *weather.synonyms))]).format(text)
    return Example(Caption(text, Description(weather=weather.name)), everyday=True)


def _words_alone(random: Random, phrasing: Phrasing) -> Caption:
    """A word of the world, or two, with next to nothing around it."""
    kind = random.choice(("object", "object", "colour", "colour", "style", "weather", "identity"))
    word = random.choice(KINDS[kind])
    says = _says(word.name, random)
    text = phrasing.said(kind, word.name, random) or word.name
    if kind in ("colour", "style") and random.random() < 0.3:
        says = Description(
            **{**{k: says.attribute(k) for k in SHAPED}, "object": random.choice(OBJECTS).name}, weather=says.weather
        )
        text = f"{text} {phrasing.said('object', says.object, random)}"
    return Caption(random.choice(everyday.BARE).format(text), says)


def _says(name: str, random: Random) -> Description:
    """What a bare word says: the rest may be anything, but mostly what goes without saying."""
    kind = next(kind for kind, words in KINDS.items() if name in (word.name for word in words))
    return Description(
        **{
            "style": random.choice(KINDS["style"]).name if random.random() < 0.3 else PLAIN_STYLE,
            "background": PLAIN_BACKGROUND,
            "weather": CLEAR,
            kind: name,
            **(_anything(random) if kind == "weather" else {}),
        }
    )


def _anything(random: Random) -> dict[str, str]:
    """Weather is over figures too."""
    return {"identity": random.choice(KINDS["identity"]).name} if random.random() < 0.15 else {}


def _mistaken(caption: Caption, random: Random) -> Caption:
    if random.random() >= MISTAKEN:
        return caption
    said = {kind: caption.says.attribute(kind) for kind in (*SHAPED, "background", "weather", "identity")}
    kind = random.choice([kind for kind in KINDS if said[kind]])
    said[kind] = NEIGHBOURS[said[kind] or ""] if random.random() < 0.6 else random.choice(KINDS[kind]).name
    return Caption(caption.text, Description(**said))


def _filled(text: str, random: Random) -> str:
    """With what people put around a prompt."""
    if random.random() < 0.5 and not text.startswith(BEFORE):
        text = random.choice(BEFORE) + text
    while random.random() < 0.35:
        text += random.choice(AFTER)
    return text


@cache
def _prompts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("everyday_prompts", REPOSITORY / "nodes" / "everyday_prompts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def all_words() -> Iterator[tuple[str, str]]:
    """Every kind of the world, with every name and synonym in it."""
    for kind, words in KINDS.items():
        for word in words:
            for name in word.all:
                yield kind, name
