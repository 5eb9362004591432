"""What a person asked to be pruned, in one frozen value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...rece_ops import InputError
from ...rece_ops.methods.pruning import PruningSettings
from .concept_lines import ConceptLine, parse_single_targets
from .training_request import Phrase, PictureSettings, contexts_of, phrases_of


@dataclass(frozen=True)
class PruningRequest:
    """What a person asked for.

    Attributes:
        concepts: what to erase; the targets are the bases that activity is compared with.
        contexts: phrases with '{}' in the concept's place.
        settings: of the pruning.
        pictures: how many pairs are made of each concept, and how; only their first steps are done.

    Raises:
        InputError: more first steps are asked for than a picture has.
    """

    concepts: Sequence[ConceptLine]
    contexts: Sequence[str]
    settings: PruningSettings
    pictures: PictureSettings

    def __post_init__(self) -> None:
        if self.settings.first_steps > self.pictures.steps:
            raise InputError(
                f"first_steps is {self.settings.first_steps}, but a picture has picture_steps = {self.pictures.steps}: lower the "
                "one or raise the other."
            )
        if self.pictures.concept < 1:
            raise InputError("pictures is 0: give at least 1, better 50.")

    def pairs(self, line: ConceptLine) -> list[Phrase]:
        """As many prompts of that concept as there are pairs, the contexts in turn."""
        phrases = phrases_of([line], self.contexts)
        return [phrases[place % len(phrases)] for place in range(self.pictures.concept)]

    def prompts(self) -> list[str]:
        """All that are looked at, of concepts and bases, none twice."""
        pairs = [pair for line in self.concepts for pair in self.pairs(line)]
        return list(dict.fromkeys([*(pair.concept for pair in pairs), *(pair.anchor for pair in pairs)]))


def pruning_request(
    concepts: str, contexts: str, settings: PruningSettings, pictures: PictureSettings
) -> PruningRequest:
    """The request that a node's texts make.

    Raises:
        InputError: a line cannot be understood, a context has no place for the concept, or the numbers do not fit together.
    """
    return PruningRequest(parse_single_targets(concepts), contexts_of(contexts), settings, pictures)
