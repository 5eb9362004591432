"""What a person asked to be trained away, in one frozen value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...rece_ops import InputError
from ...rece_ops.settings import check_count
from ...rece_ops.texts import quoted
from ...rece_ops.training.settings import HardenedSettings, RecelerSettings, UnlearningSettings
from .concept_lines import ConceptLine, parse_preserved, parse_single_targets, preserved_notes, text_key
from .everyday_prompts import CALIBRATION, CONTEXTS
from .typed_text import content_lines

Settings = TypeVar("Settings", bound=HardenedSettings | RecelerSettings | UnlearningSettings)

PLACE = "{}"


@dataclass(frozen=True)
class PictureSettings:
    """How the MODEL makes the pictures that it is trained on.

    Attributes:
        concept, other: how many of the concepts, and of what should stay.
        size: width and height in pixels.
        steps: of the sampler.
        guidance: classifier-free guidance.

    Raises:
        InputError: a value is out of range.
    """

    concept: int = 32
    other: int = 64
    size: int = 512
    steps: int = 20
    guidance: float = 7.0

    def __post_init__(self) -> None:
        for name, low, high in (("concept", 0, 4096), ("other", 0, 4096), ("size", 64, 4096), ("steps", 1, 1000)):
            check_count(_NAMES[name], getattr(self, name), low, high)
        if self.size % 8:
            raise InputError(f"size is {self.size}: give a multiple of 8, best the size that the model was trained on.")
        if not 0 <= self.guidance <= 100:
            raise InputError(f"guidance is {self.guidance}: give a number from 0 to 100.")


_NAMES = {"concept": "pictures", "other": "retained_pictures", "size": "size", "steps": "picture_steps"}


@dataclass(frozen=True)
class Phrase:
    """A prompt with a concept, and the same with the anchor in the concept's place."""

    concept: str
    anchor: str


@dataclass(frozen=True)
class TrainingRequest(Generic[Settings]):
    """What a person asked for.

    Attributes:
        concepts: what to erase; the targets are the anchors.
        contexts: phrases with '{}' in the concept's place.
        preserved: prompts that should stay, from the person.
        settings: of the training.
        pictures: that the MODEL makes where none are connected.
        notes: what was read otherwise than it was typed, as sentences.
    """

    concepts: Sequence[ConceptLine]
    contexts: Sequence[str]
    preserved: Sequence[str]
    settings: Settings
    pictures: PictureSettings
    notes: Sequence[str] = ()

    def phrases(self) -> list[Phrase]:
        """Every concept in every context, concepts in turn."""
        return phrases_of(self.concepts, self.contexts)

    def retained(self) -> list[str]:
        """Prompts whose predictions should stay: the person's, the anchors, the empty prompt, and everyday ones.

        An everyday prompt that names a concept is left out.
        """
        names = [text_key(line.concept) for line in self.concepts]
        everyday = [prompt for prompt in CALIBRATION if not any(name in text_key(prompt) for name in names)]
        anchors = [phrase.anchor for phrase in self.phrases()]
        return list(dict.fromkeys([*self.preserved, *anchors, "", *everyday]))


def training_request(
    concepts: str, contexts: str, preserve: str, settings: Settings, pictures: PictureSettings
) -> TrainingRequest[Settings]:
    """The request that a node's texts make.

    Raises:
        InputError: a line cannot be understood, or a context has no place for the concept.
    """
    lines = parse_single_targets(concepts)
    preserved, notes = parse_preserved(preserve, lines), preserved_notes(preserve, lines)
    return TrainingRequest(lines, contexts_of(contexts), preserved, settings, pictures, notes)


def contexts_of(text: str) -> tuple[str, ...]:
    """The contexts that a person typed, one a line, or a few plain ones.

    Raises:
        InputError: one has no place for the concept.
    """
    found = [context for _, context in content_lines("contexts", text)] or list(CONTEXTS)
    for context in found:
        if PLACE not in context:
            raise InputError(
                f"The line {quoted(context)} of 'contexts' has no place for the concept: write '{{}}' there, as in 'a photo of "
                "a {}'."
            )
    return tuple(dict.fromkeys(found))


def phrases_of(concepts: Sequence[ConceptLine], contexts: Sequence[str]) -> list[Phrase]:
    """Every concept in every context, concepts in turn."""
    return [
        Phrase(_filled(context, line.concept), _filled(context, line.target))
        for context in contexts
        for line in concepts
    ]


def _filled(context: str, word: str) -> str:
    return " ".join(context.replace(PLACE, word).split())
