"""Pairs of prompts with and without a concept: typed, or from a CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ...rece_ops import InputError
from .concept_lines import content_lines

MAX_PAIRS = 1000
MAX_BYTES = 4 << 20

Pair = tuple[str, str]


def typed_pairs(text: str) -> list[Pair]:
    """The pairs of a text field, one `with -> without` a line; `#` starts a comment.

    Raises:
        InputError: a line has no arrow or two, or is too much. The message names the line.
    """
    pairs = []
    for number, line in content_lines(text):
        parts = [part.strip() for part in line.split("->")]
        if len(parts) != 2 or not parts[0]:
            raise InputError(
                f"Line {number} ({line!r}) is no pair of prompts: write 'with the concept -> without it', as in "
                "'a nude woman -> a woman in a dress'."
            )
        pairs.append((parts[0], parts[1]))
    return _counted(pairs)


def pairs_of_file(path: Path) -> list[Pair]:
    """The pairs of a CSV file: a line of headings, then the prompt with the concept and the one without it.

    Raises:
        InputError: the file is too large, no UTF-8 text, or a line has not two columns.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"'{path.name}' has {size} bytes: a file of prompt pairs has at most {MAX_BYTES}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{path.name}' is no CSV file in UTF-8 ({error}): save it as one.") from None
    pairs = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or not row[0].strip():
            raise InputError(
                f"Row {number} of '{path.name}' has {len(row)} columns ({', '.join(row)[:60]!r}): give two, the prompt "
                "with the concept and the one without it."
            )
        pairs.append((row[0].strip(), row[1].strip()))
    return _counted(pairs)


def _counted(pairs: list[Pair]) -> list[Pair]:
    if len(pairs) > MAX_PAIRS:
        raise InputError(f"There are {len(pairs)} pairs of prompts: give at most {MAX_PAIRS}.")
    return pairs
