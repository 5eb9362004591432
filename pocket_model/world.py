"""What the pocket model's pictures show, and the words for it: objects, colours, styles, backgrounds, and captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from random import Random

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Word:
    """One value of an attribute: its name in plain captions, and the synonyms that other captions use."""

    name: str
    synonyms: tuple[str, ...]


# Near neighbours: circle and ring, square and diamond, star and cross.
OBJECTS = (
    Word("circle", ("disc", "round thing")),
    Word("ring", ("hoop", "donut")),
    Word("square", ("box", "four sided block")),
    Word("diamond", ("rhombus", "kite")),
    Word("triangle", ("pyramid", "wedge")),
    Word("star", ("pentagram", "asterisk")),
    Word("cross", ("plus sign", "crucifix")),
    Word("heart", ("valentine", "love symbol")),
    Word("moon", ("crescent", "lunar sickle")),
    Word("arrow", ("pointer", "dart")),
)
# Near neighbours: red and orange, orange and yellow, cyan and blue, blue and purple, red and pink.
COLOURS = (
    Word("red", ("crimson", "scarlet")),
    Word("orange", ("tangerine", "amber")),
    Word("yellow", ("golden", "lemon")),
    Word("green", ("emerald", "grass coloured")),
    Word("cyan", ("turquoise", "aqua")),
    Word("blue", ("navy", "sapphire")),
    Word("purple", ("violet", "plum")),
    Word("pink", ("rose", "flamingo")),
)
# A caption that names no style stands for a plain picture.
STYLES = (
    Word("plain", ("solid", "filled")),
    Word("striped", ("banded", "zebra")),
    Word("checkered", ("chessboard", "gingham")),
    Word("outlined", ("hollow", "line art")),
)
BACKGROUNDS = (Word("white", ()), Word("grey", ()), Word("black", ()))

KINDS: Mapping[str, tuple[Word, ...]] = {"object": OBJECTS, "colour": COLOURS, "style": STYLES}
NEIGHBOURS: Mapping[str, str] = {
    "circle": "ring",
    "ring": "circle",
    "square": "diamond",
    "diamond": "square",
    "triangle": "arrow",
    "star": "cross",
    "cross": "star",
    "heart": "moon",
    "moon": "heart",
    "arrow": "triangle",
    "red": "orange",
    "orange": "red",
    "yellow": "orange",
    "green": "cyan",
    "cyan": "blue",
    "blue": "purple",
    "purple": "blue",
    "pink": "red",
    "plain": "outlined",
    "striped": "checkered",
    "checkered": "striped",
    "outlined": "plain",
}

PALETTE: Mapping[str, Colour] = {
    "red": (0.86, 0.10, 0.12),
    "orange": (0.97, 0.53, 0.08),
    "yellow": (0.96, 0.86, 0.14),
    "green": (0.13, 0.62, 0.24),
    "cyan": (0.16, 0.78, 0.82),
    "blue": (0.14, 0.24, 0.82),
    "purple": (0.52, 0.18, 0.70),
    "pink": (0.96, 0.52, 0.76),
}
BACKDROP: Mapping[str, Colour] = {"white": (1.0, 1.0, 1.0), "grey": (0.62, 0.62, 0.62), "black": (0.05, 0.05, 0.05)}

OPENINGS = ("", "", "a picture of ", "a photo of ", "a drawing of ", "an image of ")
PLAIN_STYLE, PLAIN_BACKGROUND = STYLES[0].name, BACKGROUNDS[0].name


@dataclass(frozen=True)
class Scene:
    """What a picture shows, by the names of `Word`s."""

    object: str
    colour: str
    style: str = PLAIN_STYLE
    background: str = PLAIN_BACKGROUND

    def attribute(self, kind: str) -> str:
        """The value of 'object', 'colour' or 'style'."""
        value: str = getattr(self, kind)
        return value


@dataclass(frozen=True)
class Description:
    """What a caption says of a picture; None where it says nothing."""

    object: str | None = None
    colour: str | None = None
    style: str | None = None
    background: str | None = None

    def attribute(self, kind: str) -> str | None:
        """The value of 'object', 'colour' or 'style'."""
        value: str | None = getattr(self, kind)
        return value

    def completed(self, random: Random) -> Scene:
        """A scene that it fits: objects and colours are drawn, style and background are the plain ones."""
        return Scene(
            self.object or random.choice(OBJECTS).name,
            self.colour or random.choice(COLOURS).name,
            self.style or PLAIN_STYLE,
            self.background or PLAIN_BACKGROUND,
        )


@dataclass(frozen=True)
class Caption:
    """A text, and what a picture of it shows."""

    text: str
    says: Description


def describe(scene: Scene, opening: str = "") -> Caption:
    """The caption in the names of things: 'a photo of a striped red circle on a black background'."""
    says = Description(**asdict(scene))
    style = None if scene.style == PLAIN_STYLE else scene.style
    return Caption(_sentence(says, opening, style, scene.colour, scene.object), says)


def paraphrase(scene: Scene, concept: str, random: Random) -> Caption:
    """A caption of `scene` that says `concept` with a synonym, in one of the grammar's sentences."""
    said: dict[str, str | None] = {kind: scene.attribute(kind) for kind in KINDS}
    for kind, words in KINDS.items():
        for word in words:
            if word.name == concept == said[kind]:
                said[kind] = random.choice(word.synonyms)
    if said["style"] == PLAIN_STYLE:
        said["style"] = None
    form = random.choice((_sentence, _turned_sentence))
    says = Description(**asdict(scene))
    return Caption(form(says, random.choice(OPENINGS), said["style"], said["colour"], said["object"]), says)


def random_caption(random: Random) -> Caption:
    """One caption of the training set; a tenth of them is empty, for guidance."""
    if random.random() < 0.1:
        return Caption("", Description())
    says = Description(
        object=None if random.random() < 0.06 else random.choice(OBJECTS).name,
        colour=None if random.random() < 0.10 else random.choice(COLOURS).name,
        style=random.choice(STYLES).name,
        background=random.choice((PLAIN_BACKGROUND, random.choice(BACKGROUNDS).name)),
    )
    say_plain = random.random() < 0.3
    style = None if says.style == PLAIN_STYLE and not say_plain else _said(says.style, STYLES, random)
    form = random.choice((_sentence, _sentence, _turned_sentence))
    colour, thing = _said(says.colour, COLOURS, random), _said(says.object, OBJECTS, random)
    return Caption(form(says, random.choice(OPENINGS), style, colour, thing), says)


def _said(name: str | None, words: tuple[Word, ...], random: Random) -> str | None:
    """The name, or in three of ten captions a synonym."""
    if name is None or random.random() < 0.7:
        return name
    (word,) = (word for word in words if word.name == name)
    return random.choice(word.synonyms)


def _sentence(says: Description, opening: str, style: str | None, colour: str | None, thing: str | None) -> str:
    words = [word for word in (style, colour, thing or "shape") if word]
    return f"{opening}{_article(words[0])} {' '.join(words)}{_backdrop(says)}"


def _turned_sentence(says: Description, opening: str, style: str | None, colour: str | None, thing: str | None) -> str:
    """The attributes after the object: 'a circle that is striped and red'."""
    thing = thing or "shape"
    said = " and ".join(word for word in (style, colour) if word)
    return f"{opening}{_article(thing)} {thing}{f' that is {said}' if said else ''}{_backdrop(says)}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _backdrop(says: Description) -> str:
    if says.background in (None, PLAIN_BACKGROUND):
        return ""
    return f" on a {says.background} background"
