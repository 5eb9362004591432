"""Strengths of single blocks, as a person types them: 'input 4', 'output 3-5: 0.5', 'middle: 0'."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...rece_ops import InputError
from ...rece_ops.texts import quoted
from .typed_text import LineError, content_lines

FIELD = "blocks"
_ENTRY = re.compile(r"(?P<group>[a-z]{1,20})(?:\s+(?P<first>\d{1,3})(?:\s*-\s*(?P<last>\d{1,3}))?)?")
MOST = 2.0
"""Of an input, and of a block."""


def parse_blocks(text: str) -> dict[str, float]:
    """Strength by the name of a block or of a group, as a `Shape` has them; of two entries for a block the later counts.

    Raises:
        InputError: an entry cannot be read; the message names its line.
    """
    found: dict[str, float] = {}
    for number, line in content_lines(FIELD, text):
        for entry in filter(None, (part.strip() for part in line.split(","))):
            names, strength = _entry(number, entry)
            found.update(dict.fromkeys(names, strength))
    return found


def _entry(line: int, entry: str) -> tuple[list[str], float]:
    name, colon, given = entry.lower().partition(":")
    match = _ENTRY.fullmatch(name.strip())
    if match is None:
        raise LineError(
            line,
            f"Line {line} of '{FIELD}' has {quoted(entry)}, which is no block: write 'middle', 'input 4', 'output 3-5' or "
            "'output 3-5: 0.5', for example.",
        )
    return list(_names(line, match)), _strength(line, entry, given) if colon else 1.0


def _names(line: int, match: re.Match[str]) -> Iterator[str]:
    group, first = match["group"], match["first"]
    if first is None:
        yield group
        return
    low, high = int(first), int(match["last"] or first)
    if low > high:
        raise LineError(
            line, f"Line {line} of '{FIELD}' has the blocks {low} to {high}: give the smaller number first."
        )
    yield from (f"{group} {number}" for number in range(low, high + 1))


def _strength(line: int, entry: str, given: str) -> float:
    try:
        found = float(given)
    except ValueError:
        found = -1.0
    # NaN is in no order.
    if not 0 <= found <= MOST:
        raise LineError(
            line,
            f"Line {line} of '{FIELD}' gives {quoted(entry)} no strength that can be used: write a number from 0 to {MOST:g} "
            "after the colon.",
        )
    return found


def check_range(name: str, value: float) -> None:
    """Raise InputError unless the input `name` is a strength from 0 to 2."""
    if not 0 <= value <= MOST:
        raise InputError(f"'{name}' is {quoted(value)}: give a number from 0 to {MOST:g}.")
