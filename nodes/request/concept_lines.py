"""The little language of the concept fields: one concept a line, or several between commas.

nudity                    mapped to the empty prompt (or the preset's target)
Van Gogh -> art           mapped to "art"; → and => are arrows, too
red, blue, green          three concepts
red, blue -> grey         two concepts, both mapped to "grey"
church -> : 0.8           mapped to the empty prompt, weighing 0.8; after a list, each of its concepts weighs so
nurse -> man | woman      mapped to a mixture of both; ': 1, 3' at the end gives the shares (see `target_mixtures`)
"red, white and blue"     one concept: what is between quotes is taken as it is
# a comment
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ...rece_ops import InputError
from ...rece_ops.texts import QUOTED, printable, quoted
from .concept_lists import PHRASES
from .quotations import BAR, SEPARATORS, masked_quotations, unquoted
from .target_mixtures import mixture_of, read_mixture
from .typed_text import MAX_LINES, LineError, content_lines, is_seen

MAX_WEIGHT = 100.0

_NUMBER = re.compile(r"[+-]?\.?\d[\d.eE+-]*")
_ARROW = re.compile(r"->|=>|→")
_PROMPT_WEIGHT = re.compile(r"\(([^()]+):\s*([\d.]+)\s*\)")
_NO_TARGETS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class ConceptLine:
    """One concept to erase: its text, what it is mapped to, and its weight relative to the others.

    A mixture of targets is one text, as `target_mixtures.mixture_text` writes it.
    """

    concept: str
    target: str
    weight: float = 1.0


def parse_concepts(text: str, default_target: str = "", targets: Mapping[str, str] = _NO_TARGETS) -> list[ConceptLine]:
    """The concepts of a text field.

    Args:
        text: as typed.
        default_target: of concepts without an arrow.
        targets: of some concepts without an arrow, by `text_key` of the concept.

    Raises:
        InputError: there is no concept, or too many.
        LineError: a line has no concept, a weight is no number or out of range, concept and target are the same, or a
            concept stands twice. The message names the line.
    """
    lines = list(numbered_concepts(text, default_target, targets))
    if not lines:
        raise InputError("No concept is given: type at least one, one a line, such as 'nudity' or 'Van Gogh -> art'.")
    return [line for _, line in lines]


def parse_single_targets(text: str) -> list[ConceptLine]:
    """The same for what maps each concept to one target.

    Raises:
        InputError: a concept has several.
    """
    lines = parse_concepts(text)
    check_single_targets(lines)
    return lines


def check_single_targets(lines: Sequence[ConceptLine]) -> None:
    """Raise InputError where a concept has several targets."""
    mixed = next((line for line in lines if mixture_of(line.target)), None)
    if mixed is not None:
        raise InputError(
            f"The concept {quoted(mixed.concept)} has several targets, which only 'Erase Concepts' and 'Balance Concept' take: "
            "give it one. A '|' that belongs to the text goes into double quotes."
        )


def numbered_concepts(
    text: str, default_target: str = "", targets: Mapping[str, str] = _NO_TARGETS
) -> Iterator[tuple[int, ConceptLine]]:
    """The concepts with the numbers of their lines; see `parse_concepts`. None is no error here."""
    seen: set[str] = set()
    for number, line in content_lines("concepts", text):
        for found in _parse_line(number, line, default_target, targets):
            if text_key(found.concept) in seen:
                raise LineError(
                    number,
                    f"The concept {quoted(found.concept)} is given twice, again in line {number}: keep one of the two.",
                )
            if len(seen) == MAX_LINES:
                raise LineError(number, f"There are more than {MAX_LINES:,} concepts: use several nodes.")
            seen.add(text_key(found.concept))
            yield number, found


def parse_preserved(text: str, concepts: Sequence[ConceptLine]) -> list[str]:
    """The preserved prompts of a text field, without repetitions; a comma is part of a prompt.

    What is to be erased is left out: lists of a thousand names hold it as well. `preserved_notes` tells it.
    """
    prompts: dict[str, str] = {}
    for _, prompt in content_lines("preserve", text):
        prompts.setdefault(text_key(prompt), prompt)
    for line in concepts:
        prompts.pop(text_key(line.concept), None)
    return list(prompts.values())


def preserved_notes(text: str, concepts: Sequence[ConceptLine]) -> list[str]:
    """What of the preserved prompts is erased all the same, as a sentence."""
    erased = {text_key(line.concept) for line in concepts}
    both = {text_key(prompt): prompt for _, prompt in content_lines("preserve", text) if text_key(prompt) in erased}
    if not both:
        return []
    more = f" and {len(both) - 1} more" if len(both) > 1 else ""
    return [
        f"{quoted(next(iter(both.values())))}{more} of 'preserve' is also to be erased: it is erased, and not preserved."
    ]


def text_key(text: str) -> str:
    """Two texts with the same key are the same to the text encoder."""
    return " ".join(text.split()).casefold()


def _parse_line(number: int, line: str, default_target: str, targets: Mapping[str, str]) -> Iterator[ConceptLine]:
    masked = masked_quotations(line)
    if BAR in _behind_arrow(masked):
        # What stands behind a colon are shares, and no weight.
        end, weight = len(line), 1.0
    else:
        end, weight = _weight(number, line, masked)
    before, target = _split_arrow(number, line, masked[:end])
    items = [line[start:stop].strip() for start, stop in _items(line, masked, before) if line[start:stop].strip()]
    if not items:
        raise LineError(
            number,
            f"Line {number} ({quoted(line)}) has no concept: write it before the arrow, as in 'Van Gogh -> art'.",
        )
    for item in items:
        concept = _concept(number, line, item, len(items) > 1)
        if not is_seen(concept):
            raise LineError(number, f"Line {number} ({quoted(line)}) holds a concept that nobody can see: delete it.")
        chosen = targets.get(text_key(concept), default_target) if target is None else target
        if text_key(concept) == text_key(chosen):
            raise LineError(
                number,
                f"Line {number} ({quoted(line)}) maps the concept to itself: give another target, or leave it empty.",
            )
        yield ConceptLine(concept, chosen, weight)


def _split_arrow(number: int, line: str, masked: str) -> tuple[int, str | None]:
    """Where the concepts end, and the target: None where there is no arrow."""
    arrows = list(_ARROW.finditer(masked))
    if not arrows:
        return len(masked), None
    if len(arrows) > 1:
        raise LineError(
            number,
            f"Line {number} ({quoted(line)}) has two arrows: write several concepts with commas, and one target.",
        )
    start = arrows[0].end()
    target = line[start : len(masked)].strip()
    if BAR in masked[start:]:
        return arrows[0].start(), read_mixture(number, line, target)
    return arrows[0].start(), unquoted(target) or target


def _behind_arrow(masked: str) -> str:
    """What stands behind the first arrow; nothing without one."""
    arrow = _ARROW.search(masked)
    return masked[arrow.end() :] if arrow else ""


def _items(line: str, masked: str, end: int) -> Iterator[tuple[int, int]]:
    """Where the concepts of a list begin and end. No comma cuts in a number such as 1,000, or in a known phrase."""
    start = 0
    if text_key(line[:end]) not in PHRASES:
        for place in range(end):
            between_digits = line[max(place - 1, 0)].isdecimal() and line[place + 1 : place + 2].isdecimal()
            if masked[place] in SEPARATORS and not between_digits:
                yield start, place
                start = place + 1
    yield start, end


def _concept(number: int, line: str, item: str, listed: bool) -> str:
    """The concept that an item of a line names."""
    whole = unquoted(item)
    if whole is not None:
        return whole
    prompt_weight = _PROMPT_WEIGHT.fullmatch(item)
    if prompt_weight is not None:
        raise LineError(
            number,
            f"Line {number} ({quoted(line)}) weighs a concept as prompts do: write "
            f"'{printable(prompt_weight[1].strip(), QUOTED)} : {prompt_weight[2]}' on a line of its own, or put it in double "
            "quotes if the brackets belong to the text.",
        )
    if listed and _weight(number, item, masked_quotations(item))[0] != len(item):
        raise LineError(
            number,
            f"Line {number} ({quoted(line)}) weighs one concept of a list ({quoted(item)}): give it a line of its own. A "
            "weight at the end weighs the whole line.",
        )
    return item


def _weight(number: int, line: str, masked: str) -> tuple[int, float]:
    """Where the rest of the line ends, and its weight."""
    place = masked.rfind(":")
    # A colon with a blank before it must carry a weight; `Star Wars: A New Hope`, `16:9` and `embedding:5` have none.
    if place < 0 or not (_stands_alone(line, place) or _has_number(line, place)):
        return len(line), 1.0
    text = line[place + 1 :].strip()
    hint = (
        "write ': 0.8', for example; if the colon belongs to the text, add a weight behind it, as in 'Alien: 3 : 1', or put "
        "the text in double quotes"
    )
    try:
        weight = float(text)
    except ValueError:
        raise LineError(
            number, f"Line {number} ({quoted(line)}) has the weight {quoted(text)}, which is no number: {hint}."
        ) from None
    if not 0 < weight <= MAX_WEIGHT:
        raise LineError(
            number,
            f"Line {number} ({quoted(line)}) has the weight {printable(text, QUOTED)}: give a number above 0 and up to "
            f"{MAX_WEIGHT:.0f}; {hint}.",
        )
    return place, weight


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
