"""Double quotes in the concept fields: what is between them is taken as it is."""

from __future__ import annotations

SEPARATORS = ",，、"
"""What parts the entries of a list."""
BAR = "|"
"""What parts targets."""
_QUOTES = {'"': '"', "“": "”"}
# What stands before a concept or a target: nothing, a comma, a bar, the end of an arrow.
_BEGINNINGS = ("", ">", "→", BAR, *SEPARATORS)
_MASK = "\0"


def masked_quotations(text: str) -> str:
    """`text` with every character of its quotations replaced, so that no sign of the language is found in them.

    A quotation begins where a concept or a target does; a quote elsewhere, or without its partner, is none.
    """
    found = list(text)
    place, last, unclosed = 0, "", set()
    while place < len(text):
        character = text[place]
        closing = _QUOTES.get(character)
        if closing and closing not in unclosed and last in _BEGINNINGS:
            end = text.find(closing, place + 1)
            if end > place + 1:
                found[place : end + 1] = _MASK * (end + 1 - place)
                place = end
            elif end < 0:
                unclosed.add(closing)
        last = last if character.isspace() else character
        place += 1
    return "".join(found)


def unquoted(item: str) -> str | None:
    """What is between the quotes of an item that is one quotation; None for any other."""
    if item[:1] not in _QUOTES or set(masked_quotations(item)) != {_MASK}:
        return None
    return item[1:-1].strip() or None
