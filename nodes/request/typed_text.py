"""What a person typed: bounded before anything reads it, and cut into lines in linear time."""

from __future__ import annotations

from collections.abc import Iterator

from ...rece_ops import InputError
from ...rece_ops.texts import code_point, format_characters, quoted, without_format, without_unseen

MAX_TEXT = 1 << 20
MAX_LINES = 10_000
MAX_LINE = 4_000
_MOST_NAMED = 8


class LineError(InputError):
    """A line that cannot be understood; `line` is its number, from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def check_text(field: str, text: str) -> None:
    """Raise InputError unless `text` is short enough to be looked at, and can be encoded."""
    if len(text) > MAX_TEXT:
        raise InputError(
            f"'{field}' has {len(text):,} characters: give at most {MAX_TEXT:,}, or use several nodes one after the other."
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"'{field}' holds half a character ({quoted(text[error.start])}), which no text encoder reads: type it again."
        ) from None


def check_prompt(prompt: str) -> None:
    """Raise InputError unless a text encoder can be given `prompt`; its time grows with the square of a word's length."""
    if len(prompt) > MAX_LINE:
        raise InputError(f"The prompt {quoted(prompt)} has {len(prompt):,} characters: give at most {MAX_LINE:,}.")
    check_text("prompt", prompt)


def content_lines(field: str, text: str, inline_comments: bool = True) -> Iterator[tuple[int, str]]:
    """Line numbers and lines that hold something after comments and invisible format characters are taken out.

    Args:
        field: that was typed into, for messages.
        text: as typed.
        inline_comments: whether a comment can follow something, and not only be a line of its own.

    Raises:
        InputError: the text, a line or the number of lines is too large, or the text cannot be encoded.
        LineError: a line holds nothing but invisible characters.
    """
    check_text(field, text)
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise InputError(
            f"'{field}' has {len(lines):,} lines: give at most {MAX_LINES:,}, or use several nodes one after the other."
        )
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE:
            raise InputError(
                f"Line {number} of '{field}' ({quoted(line)}) has {len(line):,} characters: give at most {MAX_LINE:,}."
            )
        if line.strip() and not is_seen(line):
            raise LineError(number, f"Line {number} of '{field}' holds nothing but {_named(line)}: delete it.")
        seen = without_format(line).strip()
        content = "" if seen.startswith("#") else _without_comment(seen).strip() if inline_comments else seen
        if content:
            yield number, content


def is_seen(text: str) -> bool:
    """Whether a person sees anything of `text`."""
    return bool(without_unseen(text).strip())


def format_notes(field: str, text: str) -> list[str]:
    """That invisible characters of a field were left out, as a sentence; nothing where it has none."""
    found = format_characters(text)
    if not found:
        return []
    return [
        f"'{field}' held {_named(found)}, left out: copied text brings them along, and a text encoder reads them as words."
    ]


def _named(unseen: str) -> str:
    """As in 'invisible characters (U+200B)'."""
    marks = [code_point(one) for one in dict.fromkeys(unseen) if not one.isspace()]
    return f"invisible characters ({', '.join(marks[:_MOST_NAMED])}{', …' if len(marks) > _MOST_NAMED else ''})"


def _without_comment(line: str) -> str:
    """`line` up to the first '#' that stands at its start or after a blank."""
    place = line.find("#")
    while place > 0 and not line[place - 1].isspace():
        place = line.find("#", place + 1)
    return line if place < 0 else line[:place]
