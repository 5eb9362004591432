"""What 'Suggest Concepts' was asked for, and lines that say what was found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rece_pack.nodes.request.concept_lines import ConceptLine, parse_concepts
from rece_pack.nodes.request.suggestion_request import COMMON, concept_line, suggestion_request
from rece_pack.rece_ops import InputError

INPUTS: dict[str, Any] = {
    "vocabulary": "none",
    "word_list": "none",
    "words": "hat\ncap # a comment\nhat",
    "likeness": 0.6,
    "leak": 0.2,
    "most_erased": 3,
    "most_preserved": 4,
}


def test_words_come_from_lists_and_fields_and_files_each_once() -> None:
    found = suggestion_request("nudity", {**INPUTS, "word_list": "Imagenette: ten objects"}, ["cap", "church", "bell"])
    assert found.words[:2] == ["tench", "English springer"]
    assert found.words[10:] == ["hat", "cap", "bell"]
    assert (found.vocabulary, found.common, found.alike, found.leak) == (0, 13, 0.6, 0.2)
    assert suggestion_request("nudity", {**INPUTS, "vocabulary": "3,000 commonest"}).common == COMMON
    everything = suggestion_request("nudity", {**INPUTS, "word_list": "all"}).words
    assert {"nudity", "Kilian Eng", "Ajin: Demi-Human", "hate", "church"} <= set(everything)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vocabulary": "some"}, "'vocabulary' is 'some', which is no choice"),
        ({"word_list": "mine"}, "'word_list' is 'mine', which is no choice"),
        ({"words": "hat"}, "There is nothing to look at"),
        ({"words": "hat\n" * 20_000}, "'words' has 20,000 lines: give at most 10,000"),
        ({"likeness": 0.0}, "'likeness' is 0: give a number above 0 and up to 1"),
        ({"leak": 1.5}, "'leak' is 1.5"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        suggestion_request("nudity", {**INPUTS, **wrong})


def test_a_file_with_too_many_words_is_refused() -> None:
    with pytest.raises(InputError, match="100,002 words of your own: give at most 100,000"):
        suggestion_request("nudity", INPUTS, [str(number) for number in range(100_000)])


@pytest.mark.parametrize(
    ("concept", "target", "line"),
    [
        ("hat", "cap", "hat -> cap"),
        ("hat", "", "hat -> "),
        ("red, blue", "grey", '"red, blue" -> grey'),
        ("Alien: 3", "", "Alien: 3 -> "),
        ("# 1", "", '"# 1" -> '),
        ("a -> b", "c", '"a -> b" -> c'),
        ("hat", "Alien: 3", 'hat -> "Alien: 3"'),
        ('say "cheese", please', "", '“say "cheese", please” -> '),
    ],
)
def test_a_line_says_what_was_found(concept: str, target: str, line: str) -> None:
    assert concept_line(concept, target) == line
    assert parse_concepts(concept_line(concept, target, 0.5)) == [ConceptLine(concept, target, 0.5)]


@given(st.text("ab ,:->“”\"'#1.()", min_size=1, max_size=12), st.sampled_from(["", "art", "a, b"]))
def test_a_line_is_read_as_it_was_meant_or_not_written(concept: str, target: str) -> None:
    try:
        line = concept_line(concept, target)
    except InputError:
        return
    assert parse_concepts(line) == [ConceptLine(concept, target)]
