"""Foreign text (typed, from a file, from the API) made fit for a message: escaped and short.

A lone surrogate in an error cannot be encoded, which ends ComfyUI's prompt worker for good; a newline or a bidi mark can
make a report say what nobody found.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

QUOTED = 80
SHOWN = 200


def printable(text: str, limit: int = SHOWN) -> str:
    """`text` with everything invisible escaped, at most `limit` characters of it: '…' stands for the rest.

    Escaped are surrogates, control characters, line ends, bidi and zero-width marks, and what Unicode leaves unassigned.
    """
    shown: list[str] = []
    length = 0
    for character in text[: limit + 1]:
        piece = _escaped(character)
        length += len(piece)
        if length > limit:
            return _cut(shown, limit)
        shown.append(piece)
    return "".join(shown)


def quoted(value: object, limit: int = QUOTED) -> str:
    """A text as `printable` shows it, in quotes; a number as it is; anything else by its type."""
    if isinstance(value, str):
        text = printable(value, limit)
        return f'"{text}"' if "'" in text and '"' not in text else f"'{text}'"
    if value is None or isinstance(value, (bool, int, float)):
        return printable(str(value), limit)
    return f"a value of type {printable(type(value).__name__, limit)}"


def plain_json(value: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """`value` as JSON that can be encoded and read: what is invisible in its texts stays escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys)
    return "".join(
        character if character == "\n" or _escaped(character) == character else json.dumps(character)[1:-1]
        for character in text
    )


def _escaped(character: str) -> str:
    # Spaces of other widths are no danger, and people type them.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return repr(character)[1:-1]


def _cut(pieces: list[str], limit: int) -> str:
    """As many of the pieces as leave room for the sign that more follows."""
    while pieces and sum(map(len, pieces)) >= limit:
        pieces.pop()
    return "".join(pieces) + "…"
