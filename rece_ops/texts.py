"""Foreign text (typed, from a file, from the API): escaped and short in a message, and only what prints in a name.

A lone surrogate in an error cannot be encoded, which ends ComfyUI's prompt worker for good; a newline or a bidi mark can
make a report say what nobody found.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

QUOTED = 80
SHOWN = 200

# Control characters, lone surrogates, marks that order or join text without being seen, separators of lines.
_UNSEEN = {"Cc", "Cs", "Cf", "Zl", "Zp"}
# Letters and marks by category that are blank all the same.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
# Marks that order or join text without being seen; of those of category Cf, no sign of a script. Joiners shape the letters
# and emoji that they stand between: only at an edge of a word they do nothing.
_FORMAT = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
    r"|(?<!\S)[\u200c\u200d]+|[\u200c\u200d]+(?!\S)"
)
_SPACES = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")


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


def unseen_character(text: str) -> str | None:
    """The first character of `text` that nobody can see (line ends, bidi and zero-width marks, surrogates), or None."""
    if text.isprintable() and _BLANK.isdisjoint(text):
        return None
    return next((character for character in text if _is_unseen(character)), None)


def without_unseen(text: str) -> str:
    """`text` with line ends and tabs as blanks, and without all else that nobody can see."""
    if unseen_character(text) is None:
        return text
    return "".join(character for character in _SPACES.sub(" ", text) if not _is_unseen(character))


def format_characters(text: str) -> str:
    """The invisible characters of `text` that order or join it (zero-width space, byte order mark, bidi marks), each once."""
    return "".join(dict.fromkeys("".join(_FORMAT.findall(text))))


def without_format(text: str) -> str:
    """`text` without its `format_characters`, which a text encoder would read as words; blanks and line ends stay."""
    return _FORMAT.sub("", text)


def code_point(character: str) -> str:
    """As in 'U+202E', which can be printed everywhere."""
    return f"U+{ord(character):04X}"


def _is_unseen(character: str) -> bool:
    return character in _BLANK or unicodedata.category(character) in _UNSEEN
