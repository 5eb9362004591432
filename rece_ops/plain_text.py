"""Text from elsewhere that may be shown, stored or used as a name: what does not print is refused, or taken out."""

from __future__ import annotations

import re
import unicodedata

# Control characters, lone surrogates, marks that order or join text without being seen, separators of lines.
_UNSEEN = {"Cc", "Cs", "Cf", "Zl", "Zp"}
# Letters and marks by category that are blank all the same.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_SPACES = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")


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


def code_point(character: str) -> str:
    """As in 'U+202E', which can be printed everywhere."""
    return f"U+{ord(character):04X}"


def _is_unseen(character: str) -> bool:
    return character in _BLANK or unicodedata.category(character) in _UNSEEN
