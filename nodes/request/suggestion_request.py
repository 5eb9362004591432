"""What a person asked 'Suggest Concepts' for, and its answer as lines of the fields of 'Erase Concepts'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ...rece_ops import InputError
from .choices import check_choice
from .concept_lines import ConceptLine, parse_concepts, parse_single_targets, text_key
from .concept_lists import LISTS
from .typed_text import content_lines

NO_LIST, ALL_LISTS = "none", "all"
LIST_NAMES = (NO_LIST, *LISTS, ALL_LISTS)
VOCABULARIES: Mapping[str, int] = MappingProxyType(
    {"all words": 1_000_000, "10,000 commonest": 10_000, "3,000 commonest": 3_000, "none": 0}
)
DEFAULT_VOCABULARY = "all words"
COMMON = 10_000
"""How many of the vocabulary's first words are common enough for a target."""
ALIKE, NEAR, LEAK = 0.7, 0.2, 0.3
"""Limits found on words that no test erases: see docs/measurements.md."""
MAX_WORDS = 100_000


@dataclass(frozen=True)
class SuggestionRequest:
    """What a person asked for.

    Attributes:
        concepts: what is to be erased.
        vocabulary: how many of the text encoder's whole words to look at, commonest first.
        words: to look at in addition.
        common: how many of the vocabulary's words may be a target.
        alike: a word at least that like a concept is a synonym.
        near: a word at least that like it, and no synonym, is a neighbour.
        leak: a word that keeps that share of a concept through an eraser leaks.
        most_synonyms, most_neighbours: of each concept, at most.
    """

    concepts: Sequence[ConceptLine]
    vocabulary: int = VOCABULARIES[DEFAULT_VOCABULARY]
    words: Sequence[str] = ()
    common: int = COMMON
    alike: float = ALIKE
    near: float = NEAR
    leak: float = LEAK
    most_synonyms: int = 20
    most_neighbours: int = 50


def suggestion_request(concepts: str, inputs: Mapping[str, Any], file_words: Sequence[str] = ()) -> SuggestionRequest:
    """The request that the node's inputs make.

    Args:
        concepts: one a line.
        inputs: 'vocabulary', 'word_list', 'words', 'likeness', 'leak', 'most_erased', 'most_preserved'.
        file_words: of the file that was chosen.

    Raises:
        InputError: a line or a value cannot be understood, or there are no words or too many.
    """
    check_choice("vocabulary", inputs["vocabulary"], VOCABULARIES)
    check_choice("word_list", inputs["word_list"], LIST_NAMES)
    likeness, leak = (_part(name, inputs[name]) for name in ("likeness", "leak"))
    typed = [word for _, word in content_lines("words", inputs["words"])]
    words = list(dict.fromkeys([*_listed(inputs["word_list"]), *typed, *file_words]))
    vocabulary = VOCABULARIES[inputs["vocabulary"]]
    if len(words) > MAX_WORDS:
        raise InputError(
            f"There are {len(words):,} words of your own: give at most {MAX_WORDS:,}, or take several runs."
        )
    if not vocabulary and len(words) < 2:
        raise InputError(
            "There is nothing to look at: choose a 'vocabulary', a 'word_list', or type at least two 'words'."
        )
    return SuggestionRequest(
        parse_single_targets(concepts),
        vocabulary,
        words,
        COMMON if vocabulary else len(words),
        likeness,
        min(NEAR, likeness),
        leak,
        inputs["most_erased"],
        inputs["most_preserved"],
    )


def concept_line(concept: str, target: str, weight: float = 1.0) -> str:
    """A line that `parse_concepts` reads as that concept, target and weight; in quotes where it needs them.

    Raises:
        InputError: there is no such line, as for a text that holds both kinds of double quotes.
    """
    wanted = [ConceptLine(concept, target, weight)]
    behind = f" : {weight:g}" if weight != 1 else ""
    for before, after in (("", ""), ('"', '"'), ("“", "”")):
        for other in (target, f'"{target}"', f"“{target}”"):
            line = f"{before}{concept}{after} -> {other}{behind}"
            try:
                if parse_concepts(line) == wanted:
                    return line
            except InputError:
                continue
    raise InputError(f"The concept {concept!r} cannot be written as a line: take the quotes out of it.")


def _part(name: str, value: float) -> float:
    if not 0 < value <= 1:
        raise InputError(f"'{name}' is {value:g}: give a number above 0 and up to 1.")
    return value


def _listed(name: str) -> list[str]:
    chosen = list(LISTS) if name == ALL_LISTS else [name] if name in LISTS else []
    lines = [line for one in chosen for line in parse_concepts("\n".join(LISTS[one]))]
    return list({text_key(line.concept): line.concept for line in lines}.values())
