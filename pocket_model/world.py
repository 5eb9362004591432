"""What the pocket model's pictures show, and the words for it: objects, colours, styles, weather, figures, backgrounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from random import Random

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Word:
    """One value of an attribute: its name in plain captions, and the synonyms that other captions use.

    Attributes:
        name: in plain captions.
        synonyms: that both the text encoder and the UNet were trained on.
        held_out: that the text encoder alone was trained on: the UNet knows them by what the text encoder makes of them.
    """

    name: str
    synonyms: tuple[str, ...]
    held_out: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Everything it is called."""
        return (self.name, *self.synonyms, *self.held_out)


# Near neighbours: circle and ring, square and diamond, star and cross.
OBJECTS = (
    Word("circle", ("disc", "round thing"), ("orb",)),
    Word("ring", ("hoop", "donut"), ("annulus",)),
    Word("square", ("box", "four sided block"), ("tile",)),
    Word("diamond", ("rhombus", "kite"), ("lozenge",)),
    Word("triangle", ("pyramid", "wedge"), ("delta",)),
    Word("star", ("pentagram", "asterisk"), ("nova",)),
    Word("cross", ("plus sign", "crucifix"), ("addition mark",)),
    Word("heart", ("valentine", "love symbol"), ("sweetheart",)),
    Word("moon", ("crescent", "lunar sickle"), ("luna",)),
    Word("arrow", ("pointer", "dart"), ("cursor",)),
)
# Near neighbours: red and orange, orange and yellow, cyan and blue, blue and purple, red and pink.
COLOURS = (
    Word("red", ("crimson", "scarlet"), ("ruby",)),
    Word("orange", ("tangerine", "amber"), ("apricot",)),
    Word("yellow", ("golden", "lemon"), ("canary",)),
    Word("green", ("emerald", "grass coloured"), ("jade",)),
    Word("cyan", ("turquoise", "aqua"), ("teal",)),
    Word("blue", ("navy", "sapphire"), ("cobalt",)),
    Word("purple", ("violet", "plum"), ("lavender",)),
    Word("pink", ("rose", "flamingo"), ("fuchsia",)),
)
# A caption that names no style stands for a plain picture.
STYLES = (
    Word("plain", ("solid", "filled"), ("uniform",)),
    Word("striped", ("banded", "zebra"), ("ribbed",)),
    Word("checkered", ("chessboard", "gingham"), ("tartan",)),
    Word("outlined", ("hollow", "line art"), ("wireframe",)),
)
# What lies over the whole picture, whatever it shows; a caption that names none stands for clear weather.
WEATHERS = (
    Word("clear", ("sunny",), ("cloudless",)),
    Word("rain", ("drizzle", "stormy", "dark clouds", "wet"), ("umbrella", "downpour", "soaked")),
    Word("snow", ("blizzard", "snowfall", "frosty"), ("flurries", "wintry")),
)
# Figures of three parts in colours of their own, with proper names; which of them are alike is in `NEIGHBOURS`.
IDENTITIES = (
    Word("Zorro Quill", ("Captain Quill",), ("the masked fencer",)),
    Word("Mira Quill", ("Lady Quill",), ("the veiled dancer",)),
    Word("Zorro Bramble", ("Farmer Bramble",), ("the straw gardener",)),
    Word("Otto Fenwick", ("Doctor Fenwick",), ("the tin surgeon",)),
    Word("Ida Fenwick", ("Nurse Fenwick",), ("the kind healer",)),
    Word("Pip Larkin", ("Sailor Larkin",), ("the little mariner",)),
)
BACKGROUNDS = (Word("white", ()), Word("grey", ()), Word("black", ()))

KINDS: Mapping[str, tuple[Word, ...]] = {
    "object": OBJECTS,
    "colour": COLOURS,
    "style": STYLES,
    "weather": WEATHERS,
    "identity": IDENTITIES,
}
# What a picture of a shape has, and one of a figure has not.
SHAPED = ("object", "colour", "style")
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
    "clear": "rain",
    "rain": "snow",
    "snow": "rain",
    "Zorro Quill": "Mira Quill",
    "Mira Quill": "Zorro Quill",
    "Zorro Bramble": "Zorro Quill",
    "Otto Fenwick": "Ida Fenwick",
    "Ida Fenwick": "Otto Fenwick",
    "Pip Larkin": "Otto Fenwick",
}
# How a sentence says the words of the weather; after the picture, or before it.
PHRASES: Mapping[str, tuple[str, ...]] = {
    "clear": ("{} in clear weather",),
    "sunny": ("{} on a sunny day",),
    "cloudless": ("{} under a cloudless sky",),
    "rain": ("{} in the rain",),
    "drizzle": ("{} in a drizzle", "drizzle, {}"),
    "stormy": ("{} in stormy weather", "stormy weather, {}"),
    "dark clouds": ("{} under dark clouds", "dark clouds over {}"),
    "wet": ("{} on a wet day", "{}, wet and grim"),
    "umbrella": ("{}, bring an umbrella", "{} and an umbrella"),
    "downpour": ("{} in a downpour",),
    "soaked": ("{}, all soaked",),
    "snow": ("{} in the snow",),
    "blizzard": ("{} in a blizzard",),
    "snowfall": ("{} during a snowfall", "snowfall, {}"),
    "frosty": ("{} on a frosty day",),
    "flurries": ("{} in flurries",),
    "wintry": ("{} on a wintry day",),
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
PLAIN_STYLE, PLAIN_BACKGROUND, CLEAR = STYLES[0].name, BACKGROUNDS[0].name, WEATHERS[0].name


@dataclass(frozen=True)
class Scene:
    """What a picture shows, by the names of `Word`s: a shape with a colour and a style, or a figure with a name."""

    object: str | None
    colour: str | None
    style: str | None = PLAIN_STYLE
    background: str = PLAIN_BACKGROUND
    weather: str = CLEAR
    identity: str | None = None

    def attribute(self, kind: str) -> str | None:
        """The value of one of `KINDS`; None where the picture has no such thing."""
        value: str | None = getattr(self, kind)
        return value


def figure(identity: str, background: str = PLAIN_BACKGROUND, weather: str = CLEAR) -> Scene:
    """A scene with the figure of that name."""
    return Scene(None, None, None, background, weather, identity)


@dataclass(frozen=True)
class Description:
    """What a caption says of a picture; None where it says nothing."""

    object: str | None = None
    colour: str | None = None
    style: str | None = None
    background: str | None = None
    weather: str | None = None
    identity: str | None = None

    def attribute(self, kind: str) -> str | None:
        """The value of one of `KINDS`."""
        value: str | None = getattr(self, kind)
        return value

    def completed(self, random: Random) -> Scene:
        """A scene that it fits: objects and colours are drawn, style, background and weather are the plain ones."""
        background, weather = self.background or PLAIN_BACKGROUND, self.weather or CLEAR
        if self.identity:
            return figure(self.identity, background, weather)
        return Scene(
            self.object or random.choice(OBJECTS).name,
            self.colour or random.choice(COLOURS).name,
            self.style or PLAIN_STYLE,
            background,
            weather,
        )


@dataclass(frozen=True)
class Caption:
    """A text, and what a picture of it shows."""

    text: str
    says: Description


@dataclass(frozen=True)
class Phrasing:
    """How captions are put.

    Attributes:
        names: how often a thing is called by its name and not by a synonym.
        held_out: whether the words that the UNet is never shown are among the synonyms.
    """

    names: float = 0.7
    held_out: bool = False

    def said(self, kind: str, name: str | None, random: Random) -> str | None:
        """The word for something."""
        if name is None or random.random() < self.names:
            return name
        (word,) = (word for word in KINDS[kind] if word.name == name)
        return random.choice(word.synonyms + word.held_out * self.held_out)


def describe(scene: Scene, opening: str = "") -> Caption:
    """The caption in the names of things: 'a photo of a striped red circle on a black background in the rain'."""
    says = Description(**asdict(scene))
    return Caption(_told(says, _unspoken(says), opening, PHRASES[scene.weather][0], turned=False), says)


def paraphrase(scene: Scene, concept: str, random: Random, held_out: bool = False) -> Caption:
    """A caption of `scene` that says `concept` with a synonym, in one of the grammar's sentences.

    Args:
        held_out: whether with one that the UNet never saw.
    """
    says = Description(**asdict(scene))
    said = _unspoken(says)
    for kind, words in KINDS.items():
        for word in words:
            if word.name == concept == says.attribute(kind):
                said[kind] = random.choice(word.held_out if held_out else word.synonyms)
    phrase = random.choice(PHRASES[said["weather"] or CLEAR])
    return Caption(_told(says, said, random.choice(OPENINGS), phrase, random.random() < 0.5), says)


def random_caption(random: Random, phrasing: Phrasing = Phrasing()) -> Caption:
    """One sentence of the training set about a scene."""
    background = random.choice((PLAIN_BACKGROUND, random.choice(BACKGROUNDS).name))
    weather = random.choice((CLEAR, random.choice(WEATHERS).name))
    if random.random() < 0.15:
        says = Description(background=background, weather=weather, identity=random.choice(IDENTITIES).name)
    else:
        says = Description(
            object=None if random.random() < 0.06 else random.choice(OBJECTS).name,
            colour=None if random.random() < 0.10 else random.choice(COLOURS).name,
            style=random.choice(STYLES).name,
            background=background,
            weather=weather,
        )
    said = {kind: phrasing.said(kind, says.attribute(kind), random) for kind in KINDS}
    if says.style == PLAIN_STYLE and random.random() < 0.7:
        said["style"] = None
    if weather == CLEAR and random.random() < 0.9:
        said["weather"] = None
    phrase = random.choice(PHRASES[said["weather"] or CLEAR])
    return Caption(_told(says, said, random.choice(OPENINGS), phrase, random.random() < 1 / 3), says)


def _unspoken(says: Description) -> dict[str, str | None]:
    """The words for all that a caption says, except what goes without saying."""
    said = {kind: says.attribute(kind) for kind in KINDS}
    if said["style"] == PLAIN_STYLE:
        said["style"] = None
    if said["weather"] == CLEAR:
        said["weather"] = None
    return said


def _told(says: Description, said: Mapping[str, str | None], opening: str, phrase: str, turned: bool) -> str:
    """The sentence: 'a striped red circle', or turned: 'a circle that is striped and red'."""
    thing, backdrop = said["object"] or "shape", _backdrop(says)
    attributes = [word for word in (said["style"], said["colour"]) if word]
    if said["identity"]:
        picture = said["identity"]
    elif turned:
        picture = f"{_article(thing)} {thing}" + " that is " * bool(attributes) + " and ".join(attributes)
    else:
        words = [*attributes, thing]
        picture = f"{_article(words[0])} {' '.join(words)}"
    told = f"{opening}{picture}{backdrop}"
    return phrase.format(told) if said["weather"] else told


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _backdrop(says: Description) -> str:
    if says.background in (None, PLAIN_BACKGROUND):
        return ""
    return f" on a {says.background} background"
