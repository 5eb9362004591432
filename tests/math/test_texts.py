"""Foreign text in messages: escaped, short, and never able to break what carries it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.errors import MAX_MESSAGE
from rece_pack.rece_ops.texts import plain_json, printable, quoted

# Surrogates are among them.
ANY_TEXT = st.text(st.characters(), max_size=400)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a hat", "a hat"),
        ("凡·高, Café, 👩", "凡·高, Café, 👩"),
        ("wide\u3000space", "wide\u3000space"),
        (r"\(red\)", r"\(red\)"),
        ("a\nError: b", r"a\nError: b"),
        ("a\u2028b", r"a\u2028b"),
        ("\ud800", r"\ud800"),
        ("\x00\x1b[31m", r"\x00\x1b[31m"),
        ("\u202eevil\u202c", r"\u202eevil\u202c"),
        ("ze\u200bro\ufeff", r"ze\u200bro\ufeff"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(ANY_TEXT, st.integers(10, 300))
def test_what_is_shown_is_one_line_that_can_be_encoded_and_no_longer_than_its_limit(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


def test_a_text_that_just_fits_is_whole_and_a_longer_one_ends_in_an_ellipsis() -> None:
    assert printable("x" * 80, 80) == "x" * 80
    assert printable("x" * 81, 80) == "x" * 79 + "…"
    assert printable("\ud800" * 10**6, 80).endswith(r"\ud800…")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("hat", "'hat'"),
        ("van Gogh's", '"van Gogh\'s"'),
        (5, "5"),
        (float("nan"), "nan"),
        (None, "None"),
        (True, "True"),
        (["hat"] * 10**6, "a value of type list"),
        ({}, "a value of type dict"),
    ],
)
def test_values_are_quoted(value: object, shown: str) -> None:
    assert quoted(value) == shown


@given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4)))
def test_json_says_the_same_and_can_be_encoded(value: object) -> None:
    text = plain_json(value, indent=1)
    text.encode("utf-8")
    assert all(line.isprintable() or " " in line for line in text.split("\n"))
    assert json.loads(text) == json.loads(json.dumps(value))


def test_every_error_of_ours_can_be_encoded_and_is_not_endless() -> None:
    message = str(InputError("\ud800\n" * 10**6))
    assert len(message) <= MAX_MESSAGE
    assert "\n" not in message
    message.encode("utf-8")
