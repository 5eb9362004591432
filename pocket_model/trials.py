"""Which pictures tell whether a concept was erased, and what of the rest was kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from pocket_model.classifier import Seen
from pocket_model.rates import Rate
from pocket_model.world import (
    BACKGROUNDS,
    CLEAR,
    KINDS,
    NEIGHBOURS,
    OPENINGS,
    PLAIN_BACKGROUND,
    SHAPED,
    Caption,
    Scene,
    Word,
    describe,
    figure,
    paraphrase,
)

# How often a scene shows a figure instead of a shape, and has other weather than clear.
FIGURES, WEATHER = 1 / 8, 1 / 3


@dataclass(frozen=True)
class Concept:
    """Something to erase: a word of the world, and which of `KINDS` it is of."""

    name: str
    kind: str

    @property
    def word(self) -> Word:
        """It, with its synonyms."""
        (word,) = (word for word in KINDS[self.kind] if word.name == self.name)
        return word

    @property
    def neighbour(self) -> str:
        """The word of the same kind that is most like it."""
        return NEIGHBOURS[self.name]

    @property
    def target(self) -> str:
        """A word of the same kind to map it to, where it has a target."""
        return _TARGETS[self.kind]


_TARGETS = {"object": "heart", "colour": "yellow", "style": "plain", "weather": "clear", "identity": "Pip Larkin"}

CONCEPTS = (
    Concept("circle", "object"),
    Concept("square", "object"),
    Concept("star", "object"),
    Concept("red", "colour"),
    Concept("blue", "colour"),
    Concept("green", "colour"),
    Concept("striped", "style"),
    Concept("checkered", "style"),
    Concept("outlined", "style"),
    Concept("rain", "weather"),
    Concept("Zorro Quill", "identity"),
)


@dataclass(frozen=True)
class Trials:
    """Captions for one concept; the picture of each is sampled with its place in the list as the seed.

    Attributes:
        own: that name the concept.
        paraphrased: that say it with a synonym that the UNet was trained on.
        held_out: that say it with a synonym that only the text encoder was trained on.
        neighbours: that name its nearest neighbour.
        others: that have nothing of it.
    """

    own: tuple[Caption, ...]
    paraphrased: tuple[Caption, ...]
    held_out: tuple[Caption, ...]
    neighbours: tuple[Caption, ...]
    others: tuple[Caption, ...]


def concept_named(name: str) -> Concept:
    """The word of that name, of whatever kind.

    Raises:
        ValueError: the world has no such word.
    """
    for kind, words in KINDS.items():
        if name in (word.name for word in words):
            return Concept(name, kind)
    known = ", ".join(word.name for words in KINDS.values() for word in words)
    raise ValueError(f"The pocket model does not know '{name}': choose one of {known}.")


def trials(concept: Concept, count: int, others: int, seed: int = 0) -> Trials:
    """`count` captions of each sort that concerns the concept (half as many of the neighbour), and `others`."""
    random = Random(f"{seed} {concept.name}")
    scenes = [_scene(random, concept.kind, concept.name) for _ in range(count)]
    near = [_scene(random, concept.kind, concept.neighbour) for _ in range((count + 1) // 2)]
    return Trials(
        own=tuple(describe(scene, random.choice(OPENINGS)) for scene in scenes),
        paraphrased=tuple(paraphrase(scene, concept.name, random) for scene in scenes),
        held_out=tuple(paraphrase(scene, concept.name, random, held_out=True) for scene in scenes),
        neighbours=tuple(describe(scene, random.choice(OPENINGS)) for scene in near),
        others=tuple(other_captions([concept], others, seed)),
    )


def other_captions(concepts: Sequence[Concept], count: int, seed: int = 0) -> list[Caption]:
    """Plain captions that name none of `concepts`; what is left of one list of captions for all."""
    random = Random(f"{seed} others")
    erased = {(concept.kind, concept.name) for concept in concepts}
    found: list[Caption] = []
    while len(found) < count:
        caption = describe(_scene(random), random.choice(OPENINGS))
        if not any((kind, caption.says.attribute(kind)) in erased for kind in KINDS):
            found.append(caption)
    return found


def vector_pairs(concept: Concept, count: int, seed: int = 0) -> list[tuple[Caption, Caption]]:
    """Pairs of plain captions that differ in one word: the concept, and any other of its kind."""
    random = Random(f"{seed} {concept.name} vector")
    found = []
    for _ in range(count):
        scene, opening = _scene(random, concept.kind, concept.name), random.choice(OPENINGS)
        others = [word.name for word in KINDS[concept.kind] if word.name != concept.name]
        other = replace(scene, **{concept.kind: random.choice(others)})
        found.append((describe(scene, opening), describe(other, opening)))
    return found


def without(concept: Concept, captions: Sequence[Caption], word: str) -> list[Caption]:
    """The captions with `word` in the place of the concept's name."""
    return [replace(caption, text=re.sub(rf"\b{concept.name}\b", word, caption.text)) for caption in captions]


def made(concept: Concept, seen: Sequence[Seen]) -> Rate:
    """How many pictures show the concept."""
    return Rate.of(picture.attribute(concept.kind) == concept.name for picture in seen)


def kept(captions: Sequence[Caption], seen: Sequence[Seen], kinds: Sequence[str] = tuple(KINDS)) -> Rate:
    """How many pictures show all that their captions say."""
    return Rate.of(
        all(caption.says.attribute(kind) in (None, picture.attribute(kind)) for kind in kinds)
        for caption, picture in zip(captions, seen, strict=True)
    )


def scene_with(random: Random, concept: Concept) -> Scene:
    """Any scene that shows the concept."""
    return _scene(random, concept.kind, concept.name)


def _scene(random: Random, kind: str = "", name: str = "") -> Scene:
    """Any scene, or one that has what is named."""
    drawn = {kind: random.choice(words).name for kind, words in KINDS.items()}
    if random.random() >= WEATHER:
        drawn["weather"] = CLEAR
    is_figure = random.random() < FIGURES
    if kind:
        drawn[kind] = name
        is_figure = kind == "identity" or (is_figure and kind not in SHAPED)
    background = random.choice((PLAIN_BACKGROUND, random.choice(BACKGROUNDS).name))
    if is_figure:
        return figure(drawn["identity"], background, drawn["weather"])
    return Scene(drawn["object"], drawn["colour"], drawn["style"], background, drawn["weather"])


def other_words(concepts: Sequence[Concept]) -> list[str]:
    """The names of everything but `concepts`: what a careful person would preserve."""
    erased = {concept.name for concept in concepts}
    return [word.name for words in KINDS.values() for word in words if word.name not in erased]
