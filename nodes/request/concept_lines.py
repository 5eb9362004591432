"""The little language of the concept fields: one concept a line.

nudity                    mapped to the empty prompt (or the preset's target)
Van Gogh -> art           mapped to "art"
church -> : 0.8           mapped to the empty prompt, weighing 0.8
# a comment
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...rece_ops import InputError
from ...rece_ops.texts import QUOTED, printable, quoted
from .typed_text import content_lines

MAX_WEIGHT = 100.0

_NUMBER = re.compile(r"[+-]?\.?\d[\d.eE+-]*")


@dataclass(frozen=True)
class ConceptLine:
    """One concept to erase: its text, what it is mapped to, and its weight beside the others."""

    concept: str
    target: str
    weight: float = 1.0


def parse_concepts(text: str, default_target: str = "") -> list[ConceptLine]:
    """The concepts of a text field; `default_target` is for lines without an arrow.

    Raises:
        InputError: there is no concept, a line has none, a weight is no number or out of range, concept
            and target are the same, or a concept stands twice. The message names the line.
    """
    lines = [_parse_line(number, line, default_target) for number, line in content_lines("concepts", text)]
    if not lines:
        raise InputError("No concept is given: type at least one, one a line, such as 'nudity' or 'Van Gogh -> art'.")
    seen: dict[str, str] = {}
    for line in lines:
        if _key(line.concept) in seen:
            raise InputError(f"The concept {quoted(line.concept)} is given twice: keep one of the two lines.")
        seen[_key(line.concept)] = line.concept
    return lines


def parse_preserved(text: str, concepts: Sequence[ConceptLine]) -> list[str]:
    """The preserved prompts of a text field, without repetitions.

    Raises:
        InputError: a prompt is also to be erased.
    """
    erased = {_key(line.concept) for line in concepts}
    prompts: dict[str, str] = {}
    for number, prompt in content_lines("preserve", text):
        if _key(prompt) in erased:
            raise InputError(
                f"Line {number} of 'preserve' ({quoted(prompt)}) is also a concept to erase: take it out of one of the two."
            )
        prompts.setdefault(_key(prompt), prompt)
    return list(prompts.values())


def _parse_line(number: int, line: str, default_target: str) -> ConceptLine:
    rest, weight = _split_weight(number, line)
    concept, arrow, target = (part.strip() for part in rest.partition("->"))
    if not arrow:
        target = default_target
    if "->" in target:
        raise InputError(f"Line {number} ({quoted(line)}) has two arrows: write one concept and one target a line.")
    if not concept:
        raise InputError(
            f"Line {number} ({quoted(line)}) has no concept: write it before the arrow, as in 'Van Gogh -> art'."
        )
    if _key(concept) == _key(target):
        raise InputError(
            f"Line {number} ({quoted(line)}) maps the concept to itself: give another target, or leave it empty."
        )
    return ConceptLine(concept, target, weight)


def _split_weight(number: int, line: str) -> tuple[str, float]:
    place = line.rfind(":")
    # A colon with a blank before it must carry a weight; `Star Wars: A New Hope`, `16:9` and `embedding:5` have none.
    if place < 0 or not (_stands_alone(line, place) or _has_number(line, place)):
        return line, 1.0
    text = line[place + 1 :].strip()
    hint = "write ': 0.8', for example; if the colon belongs to the text, add a weight behind it, as in 'Alien: 3 : 1'"
    try:
        weight = float(text)
    except ValueError:
        raise InputError(
            f"Line {number} ({quoted(line)}) has the weight {quoted(text)}, which is no number: {hint}."
        ) from None
    if not 0 < weight <= MAX_WEIGHT:
        raise InputError(
            f"Line {number} ({quoted(line)}) has the weight {printable(text, QUOTED)}: give a number above 0 and up to "
            f"{MAX_WEIGHT:.0f}; {hint}."
        )
    return line[:place], weight


def _stands_alone(line: str, colon: int) -> bool:
    """Whether the colon is the first of the line, or after a blank."""
    return colon == 0 or line[colon - 1].isspace()


def _has_number(line: str, colon: int) -> bool:
    """Whether a number follows the colon of no time and no textual inversion."""
    before = line[:colon]
    return (
        _NUMBER.fullmatch(line[colon + 1 :].lstrip()) is not None
        and not before[-1:].isdecimal()
        and not before.endswith("embedding")
    )


def _key(text: str) -> str:
    """Two texts with the same key are the same to the text encoder."""
    return " ".join(text.split()).casefold()
