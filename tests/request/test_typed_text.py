"""Typed texts are bounded before they are read, and read in linear time, with the meaning they always had."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings
from rece_pack.nodes.request.concept_lines import ConceptLine, parse_concepts, parse_preserved
from rece_pack.nodes.request.prompt_pairs import MAX_PAIRS, pairs_of_file, typed_pairs
from rece_pack.nodes.request.typed_text import (
    MAX_LINE,
    MAX_LINES,
    MAX_TEXT,
    LineError,
    check_prompt,
    content_lines,
    format_notes,
)
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.texts import unseen_character


def preserved(text: str) -> list[str]:
    return parse_preserved(text, [ConceptLine("hat", "")])


PARSERS: dict[str, Callable[[str], object]] = {"concepts": parse_concepts, "preserve": preserved, "pairs": typed_pairs}
HOSTILE = {
    "blanks between colons": "a :" + " " * 10**6 + ":x",
    "colons": ":" * 10**6,
    "blanks and colons": " :" * 500_000,
    "arrows": "->" * 500_000,
    "hashes": "x#" * 500_000,
    "quotes": ',"' * 500_000,
    "open quotes": ",“" * 500_000,
    "commas": "a," * 500_000,
    "digits": "a:" + "1" * 10**6 + "x",
    "signs": "a:" + "+-.eE" * 200_000,
    "lines": "x\n" * 500_000,
    "empty lines": "\n" * 10**6,
    "more than a mebibyte": "word " * (MAX_TEXT // 5 + 1),
}


@pytest.mark.parametrize("field", PARSERS)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_text_is_refused_at_once_in_a_short_sentence_with_the_limit(field: str, case: str) -> None:
    started = time.process_time()
    with pytest.raises(InputError, match=f"'{field}'.*at most") as caught:
        PARSERS[field](HOSTILE[case])
    # Backtracking took minutes; the slowest machine takes some milliseconds to count a million characters.
    assert time.process_time() - started < 2
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("\ufeffnudity", ["nudity"]),
        ("nu\u200bdity\u2060 -> \u202ecloth\u202cing", ["nudity -> clothing"]),
        ("\ufeff# a comment\nhat", ["hat"]),
        ("soft\u00adware", ["software"]),
        # Joiners belong to the letters and emoji that they stand between.
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"]),
        ("\u200dhat\u200c", ["hat"]),
    ],
)
def test_invisible_characters_are_left_out_with_a_note(text: str, read: list[str]) -> None:
    assert [line for _, line in content_lines("concepts", text)] == read
    assert bool(format_notes("concepts", text)) == (text not in read)


@pytest.mark.parametrize("unseen", ["\u200b", "\ufeff \u202e", "\u200d", "\u3164", "\u115f"])
@pytest.mark.parametrize("field", PARSERS)
def test_a_line_that_nobody_can_see_is_refused(field: str, unseen: str) -> None:
    with pytest.raises(LineError, match=f"Line 2 of '{field}' holds nothing but invisible characters .U[+]") as caught:
        PARSERS[field](f"a -> b\n{unseen}")
    assert caught.value.line == 2


def test_a_concept_of_a_list_that_nobody_can_see_is_refused() -> None:
    with pytest.raises(LineError, match=r"Line 1 .* holds a concept that nobody can see"):
        parse_concepts("red, \u3164, blue")


@pytest.mark.parametrize(
    "line",
    [
        ",“" * (MAX_LINE // 2),
        ',"' * (MAX_LINE // 2),
        " " * (MAX_LINE - 3) + ":x",
        ":" * MAX_LINE,
        "a:" + "1" * (MAX_LINE - 3) + "x",
    ],
)
def test_the_longest_lines_are_read_at_once(line: str) -> None:
    text = "\n".join(["a" + line[:-1]] * (MAX_TEXT // MAX_LINE // 2))
    started = time.process_time()
    for parse in PARSERS.values():
        with contextlib.suppress(InputError):
            parse(text)
    assert time.process_time() - started < 5


def test_as_much_as_the_limits_allow_is_read() -> None:
    assert len(list(content_lines("concepts", "x" * MAX_LINE + "\n" + "y\n" * (MAX_LINES - 1)))) == MAX_LINES
    with pytest.raises(InputError, match=rf"Line 2 of 'concepts' \('x+…'\) has {MAX_LINE + 1:,} characters"):
        list(content_lines("concepts", "a\n" + "x" * (MAX_LINE + 1)))
    with pytest.raises(InputError, match=f"'concepts' has {MAX_LINES + 1:,} lines: give at most {MAX_LINES:,}"):
        list(content_lines("concepts", "y\n" * (MAX_LINES + 1)))


@pytest.mark.parametrize("field", PARSERS)
def test_half_a_character_is_refused(field: str) -> None:
    with pytest.raises(InputError, match=rf"'{field}' holds half a character \('\\ud83d'\)"):
        PARSERS[field]("a hat -> x\n\ud83d -> y")


def test_a_prompt_is_bounded_before_a_text_encoder_gets_it() -> None:
    check_prompt("word " * (MAX_LINE // 5))
    with pytest.raises(InputError, match=f"has {10**6:,} characters: give at most {MAX_LINE:,}"):
        check_prompt("a" * 10**6)
    with pytest.raises(InputError, match="half a character"):
        check_prompt("\udfff")


# The language as it was first written down, which backtracks.
COMMENT = re.compile(r"(^|\s)#.*")
WEIGHT = re.compile(r"(?:(?:^|\s):\s*(?P<any>[^:]*)|(?<!\d)(?<!embedding):\s*(?P<number>[+-]?\.?\d[\d.eE+-]*))$")


def first_reading(text: str) -> list[tuple[str, str, float]] | None:
    """Concepts, targets and weights; None where a line is refused for what it holds."""
    found = []
    for line in text.splitlines():
        rest, weight = COMMENT.sub("", line).strip(), 1.0
        if not rest:
            continue
        match = WEIGHT.search(rest)
        if match is not None:
            number = match["any"] if match["any"] is not None else match["number"]
            try:
                weight = float(number.strip())
            except ValueError:
                return None
            rest = rest[: match.start()]
        concept, _, target = (part.strip() for part in rest.partition("->"))
        same = " ".join(concept.split()).casefold() == " ".join(target.split()).casefold()
        if not concept or same or "->" in target or not 0 < weight <= 100:
            return None
        found.append((concept, target, weight))
    keys = [" ".join(concept.split()).casefold() for concept, _, _ in found]
    return found if found and len(set(keys)) == len(keys) else None


PIECES = [
    "a",
    "hat",
    "->",
    ":",
    "::",
    " ",
    "\t",
    "\u3000",
    "\x1f",
    "#",
    "\n",
    "0.8",
    ".5",
    "1e-1",
    "+2",
    "-",
    "e",
    "²",
    "٣",
]
PIECES += ["embedding", "embedding:", "16:9", "nan", "inf", "1_0", "Star Wars: A New Hope", "\u2028", "\xa0", "Ä", "凡"]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=30))
def test_ordinary_texts_mean_what_they_did(text: str) -> None:
    try:
        text.encode()
        # What later versions gave a meaning to, left out or refused.
        assume(
            not set(text) & set(',，、"“(→')
            and "=>" not in text
            and unseen_character("".join(text.splitlines())) is None
        )
        found = [(line.concept, line.target, line.weight) for line in parse_concepts(text)]
    except UnicodeEncodeError:
        return
    except InputError:
        found = None
    assert found == first_reading(text)


def table(folder: Path, rows: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text("with,without\n" + rows, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,b\n" * 1_000_000, f"more than {MAX_PAIRS} pairs"),
        (f"{'x' * 5000},b\n", "Row 2 of 'pairs.csv' has a prompt of 5,000 characters"),
        (f"{'x' * 200_000},b\n", "is no CSV file .*field larger than field limit"),
        ("\u202e,b,c\n", r"has 3 columns \('\\u202e, b, c'\)"),
        ("x" + "," * 1_000_000, "has 1000001 columns"),
        ('"open', "is no CSV file in UTF-8"),
    ],
)
def test_a_hostile_table_is_refused_in_a_short_sentence(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        pairs_of_file(table(tmp_path, rows))
    assert len(str(caught.value)) < 400


def test_a_table_with_as_many_pairs_as_there_may_be_is_read(tmp_path: Path) -> None:
    assert pairs_of_file(table(tmp_path, "a nude,a dress\n\n" * MAX_PAIRS)) == [("a nude", "a dress")] * MAX_PAIRS
