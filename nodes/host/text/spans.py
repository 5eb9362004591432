"""Where a prompt's own tokens lie in what a tokenizer makes of it: behind a template, before end and padding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....rece_ops import InputError
from ....rece_ops.texts import quoted

# Two prompts whose last tokens differ, whatever the tokenizer.
_PROBES = ("a", "b")
_INVERSION_SIGN = "embedding:"
# Where the host looks for one: at the start, or after a blank or a line end.
_INVERSION = re.compile(rf"(?:^|(?<=[ \n])){_INVERSION_SIGN}(\S*)")
_BARE_PARENTHESIS = re.compile(r"(?<!\\)[()]")

Tokenized = Mapping[str, Sequence[Sequence[tuple[Any, ...]]]]


@dataclass(frozen=True)
class Span:
    """The tokens of a prompt among all that a tokenizer makes, its windows one after the other.

    Attributes:
        first: index of the first token of the prompt itself.
        end: index after the last one; equal to `first` for a prompt without tokens.
        count: how many tokens there are in all.
    """

    first: int
    end: int
    count: int

    @property
    def last_subject(self) -> int:
        """Index of the prompt's last own token; of the token before, where it has none."""
        return max(self.end - 1, 0)

    def shifted(self, count: int) -> Span:
        """The same where only the last `count` tokens are left, as where a text encoder drops its template."""
        dropped = self.count - count
        first, end = (min(max(place - dropped, 0), count) for place in (self.first, self.end))
        return Span(first, end, count)

    @staticmethod
    def around(spans: Iterable[Span]) -> Span:
        """The span of text encoders that are read side by side: from the first of all to the furthest."""
        found = list(spans)
        count = min(span.count for span in found)
        return Span(
            min(*(span.first for span in found), count),
            min(max(span.end for span in found), count),
            count,
        )


class Spans:
    """Finds spans by asking the CLIP's own tokenizers.

    Start, end and padding are what the host marks as no words. Of the words, those that a prompt begins with also when
    it is empty are the template, and so are those that two prompts of one letter each both end with.
    """

    def __init__(self, clip: Any) -> None:
        self._clip = clip
        one, other, empty = (self._marked(probe) for probe in (*_PROBES, ""))
        self._before = {
            name: _start(tokens) + _common(_words(tokens), _words(empty[name])) for name, tokens in one.items()
        }
        self._after = {name: _common(_words(tokens)[::-1], _words(other[name])[::-1]) for name, tokens in one.items()}

    def of(self, text: str) -> dict[str, Span]:
        """The span of `text` for every tokenizer that reads it."""
        return {name: self._span(name, tokens) for name, tokens in self._marked(text).items() if name in self._before}

    def _span(self, name: str, tokens: Sequence[tuple[Any, bool]]) -> Span:
        first = min(self._before[name], len(tokens))
        words = [place for place, (_, is_word) in enumerate(tokens) if is_word]
        own = words[: len(words) - self._after[name]]
        end = own[-1] + 1 if own else first
        return Span(first, max(first, end), len(tokens))

    def _marked(self, text: str) -> dict[str, list[tuple[Any, bool]]]:
        """Every token of every tokenizer, and whether it belongs to a word (the host's word id is not 0)."""
        return {
            name: [(token, bool(word)) for window in windows for token, _, word in window]
            for name, windows in tokenize(self._clip, text, return_word_ids=True).items()
        }


def tokenize(clip: Any, text: str, **options: Any) -> Tokenized:
    """What CLIP's tokenizers make of `text`, in which parentheses are plain text and no weights.

    Not all tokenizers of the host can be told to leave weights alone, but all of them know an escaped parenthesis.
    """
    found: Tokenized = clip.tokenize(_BARE_PARENTHESIS.sub(r"\\\g<0>", text), **options)
    return found


def check_inversions(clip: Any, text: str) -> None:
    """Raise InputError where `text` names a textual inversion that the host does not find: it would drop the word silently."""
    for name in _INVERSION.findall(text):
        if not _is_read(clip, f"{_INVERSION_SIGN}{name.strip(',')}"):
            raise InputError(
                f"The prompt {quoted(text)} names the textual inversion {quoted(name)}, which is not in models/embeddings: put its "
                "file there, or correct the name."
            )


def _is_read(clip: Any, inversion: str) -> bool:
    """Whether any tokenizer makes something of a word that is nothing but an inversion's name."""
    if inversion == _INVERSION_SIGN:
        return False
    tokenized = tokenize(clip, inversion, return_word_ids=True).values()
    return any(word for windows in tokenized for window in windows for _, _, word in window)


def _start(tokens: Sequence[tuple[Any, bool]]) -> int:
    """How many tokens come before the first word."""
    return next((place for place, (_, is_word) in enumerate(tokens) if is_word), 0)


def _words(tokens: Sequence[tuple[Any, bool]]) -> list[Any]:
    return [token for token, is_word in tokens if is_word]


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many tokens both begin with."""
    return next(
        (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )
