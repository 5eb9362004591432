"""What a person asked to be balanced, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...rece_ops import InputError
from ...rece_ops.settings import check_count
from ...rece_ops.texts import quoted
from .concept_lines import ConceptLine, text_key
from .erasure_request import MIXING, ErasureRequest, request_of
from .target_mixtures import EXAMPLE, mixture_of
from .typed_text import check_prompt, content_lines

MOST_PICTURES = 200
MOST_ROUNDS = 30
_PRESET = "UCE only"


@dataclass(frozen=True)
class BalanceRequest:
    """What a person asked for.

    Attributes:
        erasure: the concept with its targets, what is preserved, and the method.
        prompts: that its pictures are made with, one after the other.
        labels: the targets, each by the description or class that a detector knows it by.
        pictures: how many are counted at a time.
        rounds: how many mixtures are tried at most.
        tolerance: how far a share may be from what was asked for.
    """

    erasure: ErasureRequest
    prompts: Sequence[str]
    labels: Mapping[str, str]
    pictures: int
    rounds: int
    tolerance: float

    @property
    def line(self) -> ConceptLine:
        """The concept."""
        return self.erasure.concepts[0]


def balance_request(
    concept: str, prompts: str, preserve: str, descriptions: str, pictures: int, rounds: int, tolerance: float
) -> BalanceRequest:
    """The request that the inputs of the node make; see `BalanceRequest`.

    Args:
        concept: one line, as `parse_concepts` reads it, with several targets.
        prompts: one a line; empty for the concept alone.
        preserve: one prompt a line.
        descriptions: one for each target, in their order; empty for the targets themselves.
        pictures, rounds, tolerance: see `BalanceRequest`.

    Raises:
        InputError: a line cannot be understood, a prompt does not name the concept, or a number is out of range.
    """
    check_count("pictures", pictures, 2, MOST_PICTURES)
    check_count("rounds", rounds, 1, MOST_ROUNDS)
    if not 0 <= tolerance <= 1:
        raise InputError(f"'tolerance' is {tolerance}: give a number from 0 to 1.")
    erasure = request_of(concept, {"preset": _PRESET, "method": MIXING, "preserve": preserve})
    check_balanced(erasure.concepts)
    (line,) = erasure.concepts
    targets = list(mixture_of(line.target))
    return BalanceRequest(
        erasure, _prompts(prompts, line.concept), _labels(descriptions, targets), pictures, rounds, tolerance
    )


def check_balanced(concepts: Sequence[ConceptLine]) -> None:
    """Raise InputError unless that is one concept with several targets."""
    if len(concepts) > 1:
        raise InputError(
            f"'concept' has {len(concepts)} concepts: balance one, and use a node for each of the others, with the model "
            "of the one before."
        )
    if not mixture_of(concepts[0].target):
        raise InputError(f"The concept {quoted(concepts[0].concept)} has one target: give several, as in '{EXAMPLE}'.")


def _prompts(text: str, concept: str) -> list[str]:
    found = [prompt for _, prompt in content_lines("prompts", text, inline_comments=False)] or [concept]
    for prompt in found:
        check_prompt(prompt)
        if text_key(concept) not in text_key(prompt):
            raise InputError(
                f"The prompt {quoted(prompt)} does not name {quoted(concept)}, so that its pictures would not change: put the "
                "concept into it."
            )
    return found


def _labels(text: str, targets: Sequence[str]) -> dict[str, str]:
    given = [line for _, line in content_lines("descriptions", text, inline_comments=False)] or list(targets)
    if len(given) != len(targets):
        raise InputError(
            f"'descriptions' has {len(given)} lines for {len(targets)} targets: give one for each, in the order of the targets."
        )
    labels = dict(zip(given, targets, strict=True))
    if len(labels) < len(targets):
        raise InputError("'descriptions' has a line twice: no detector could tell the two targets apart.")
    return labels
