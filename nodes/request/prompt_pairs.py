"""Pairs of prompts with and without a concept: typed, or from a CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ...rece_ops import InputError
from ...rece_ops.texts import printable, quoted
from .typed_text import MAX_LINE, content_lines

MAX_PAIRS = 1000
MAX_BYTES = 4 << 20

Pair = tuple[str, str]


def typed_pairs(text: str) -> list[Pair]:
    """The pairs of a text field, one `with -> without` a line; `#` starts a comment.

    Raises:
        InputError: a line has no arrow or two, or is too much. The message names the line.
    """
    pairs: list[Pair] = []
    for number, line in content_lines("pairs", text):
        parts = [part.strip() for part in line.split("->")]
        if len(parts) != 2 or not parts[0]:
            raise InputError(
                f"Line {number} ({quoted(line)}) is no pair of prompts: write 'with the concept -> without it', as in "
                "'a nude woman -> a woman in a dress'."
            )
        _add(pairs, (parts[0], parts[1]))
    return pairs


def pairs_of_file(path: Path) -> list[Pair]:
    """The pairs of a CSV file: a line of headings, then the prompt with the concept and the one without it.

    Raises:
        InputError: the file is too large, no UTF-8 text, or a line has not two columns or too much in them.
    """
    name = quoted(path.name)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{name} has {size} bytes: a file of prompt pairs has at most {MAX_BYTES}.")
    pairs: list[Pair] = []
    try:
        rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True)
        filled = (row for row in rows if any(cell.strip() for cell in row))
        next(filled, None)
        for number, row in enumerate(filled, start=2):
            _add(pairs, _pair_of(name, number, row))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} is no CSV file in UTF-8 ({printable(str(error))}): save it as one.") from None
    return pairs


def _pair_of(name: str, number: int, row: list[str]) -> Pair:
    if len(row) != 2 or not row[0].strip():
        raise InputError(
            f"Row {number} of {name} has {len(row)} columns ({quoted(', '.join(row[:9]))}): give two, the prompt with the "
            "concept and the one without it."
        )
    longest = max(row, key=len)
    if len(longest) > MAX_LINE:
        raise InputError(
            f"Row {number} of {name} has a prompt of {len(longest):,} characters ({quoted(longest)}): give at most "
            f"{MAX_LINE:,}."
        )
    return row[0].strip(), row[1].strip()


def _add(pairs: list[Pair], pair: Pair) -> None:
    """Append in place, as long as there is room."""
    if len(pairs) == MAX_PAIRS:
        raise InputError(f"There are more than {MAX_PAIRS} pairs of prompts: give at most {MAX_PAIRS}.")
    pairs.append(pair)
