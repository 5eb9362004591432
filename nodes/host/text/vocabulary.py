"""The whole words that a CLIP's tokenizers know, commonest first: what people can type that is one token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ..protocols import Clip

# How vocabularies mark a whole word: CLIP at its end, SentencePiece and byte-level BPE at its beginning.
_END, _BEGINNINGS = "</w>", ("▁", "Ġ")
_SHORTEST = 2


def whole_words(clip: Clip | None) -> list[str]:
    """Words of letters in the largest of the vocabularies, in its order, each once in small letters.

    Tokenizers list words in the order in which they were merged or by how common they are, so that the first are the commonest.
    A CLIP whose tokenizers show no vocabulary has no words.
    """
    largest = max(_vocabularies(getattr(clip, "tokenizer", None)), key=len, default={})
    ordered = sorted(largest.items(), key=lambda item: item[1])
    words = (_word(token) for token, _ in ordered)
    return list(dict.fromkeys(word.lower() for word in words if len(word) >= _SHORTEST and word.isalpha()))


def _vocabularies(tokenizer: Any) -> Iterator[Mapping[str, int]]:
    """Of all tokenizers that a CLIP's tokenizer holds: the host has one attribute for each text encoder."""
    for one in vars(tokenizer).values() if hasattr(tokenizer, "__dict__") else ():
        inner = getattr(one, "tokenizer", None)
        if inner is not None and hasattr(inner, "get_vocab"):
            yield {str(token): int(place) for token, place in inner.get_vocab().items()}


def _word(token: str) -> str:
    """The text of a token that is a whole word; empty for any other."""
    if token.endswith(_END):
        return _decoded(token.removesuffix(_END))
    if token.startswith(_BEGINNINGS[0]):
        return token[1:]
    return _decoded(token[1:]) if token.startswith(_BEGINNINGS[1]) else ""


def _decoded(token: str) -> str:
    """The text that byte-level tokens stand for, whose characters each are a byte; empty where it is no whole text."""
    if token.isascii():
        return token
    try:
        return bytes(_bytes()[character] for character in token).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return ""


@cache
def _bytes() -> Mapping[str, int]:
    """The byte of each character of byte-level BPE: printable Latin-1 is itself, all others follow from U+0100 on."""
    plain = [byte for byte in range(256) if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{chr(byte): byte for byte in plain}, **{chr(256 + place): byte for place, byte in enumerate(others)}}
