"""Thousands of words as the MODEL reads them, each encoded once in a text encoder's life."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....rece_ops.formats.word_file import EncodedWords
from ....rece_ops.progress import Progress
from ...request.typed_text import check_prompt
from ..architectures.detection import TextStream
from ..progress import check_cancelled
from ..session import Session
from ..stored.word_cache import WordCache
from ..text.encoded import EncodedTokens
from ..text.prefixes import CausalEncoders, causal_encoders
from ..text.spans import check_inversions, tokenize

# Tokens that a word is measured by. CLIP pads every prompt with what it made of all of it, which is most of what the model reads;
# other text encoders end with the word.
_OF_WINDOWS, _OF_OTHERS = slice(1, 2), slice(0, 2)
_PROBES = ("dog", "a photo of a house", "nudity")
# Of fast and slow encoding: their kernels differ, and half precision on a GPU rounds differently.
_SAME = 0.01
_TOKENS_AT_ONCE = 1536
_SAVE_SECONDS = 300.0
_STAGE = "encoding words"


@dataclass(frozen=True)
class Words:
    """Words and the tokens that they are measured by.

    Attributes:
        words: n of them.
        tokens: [n, m, d] float32, on the CPU, rounded as the cache keeps them.
        encoded: how many of them were not in the cache.
        fast: whether they were encoded many at a time.
        seconds: that it took.
        notes: what happened to the cache, and what was left out, as sentences.
    """

    words: tuple[str, ...]
    tokens: Tensor
    encoded: int
    fast: bool
    seconds: float
    notes: tuple[str, ...]


def main_stream(session: Session) -> TextStream:
    """The text stream that words are measured in: the first that holds tokens."""
    return next(stream for stream in session.architecture.streams if not stream.pooled)


def word_tokens(session: Session, text: str) -> Tensor:
    """The tokens [m, d] that a text is measured by, as sampling reads them.

    Raises:
        InputError, WrongConnectionError: see `TextEncoder.encode`.
    """
    parts = session.encoder.encode_together([text])[text].streams[main_stream(session).name]
    return torch.cat([_measured(one) for one in parts]).float().cpu()


def _measured(encoded: EncodedTokens) -> Tensor:
    """As many tokens for every text: the last ones again, where it has fewer."""
    rows = encoded.from_subject
    wanted = (_OF_WINDOWS if encoded.source.windows else _OF_OTHERS).indices(2)
    return rows[[min(place, len(rows) - 1) for place in range(*wanted)]]


def encode_words(session: Session, words: Sequence[str], progress: Progress) -> Words:
    """The tokens of `words`; what a cancelled run has encoded is kept for the next.

    CLIP's text encoders take many words at a time, unless another pack changed what they give: that shows in a few prompts that
    are encoded both ways. All others take one word after the other, as sampling does.

    Raises:
        InputError, WrongConnectionError: see `TextEncoder.encode`.
    """
    started = time.monotonic()
    stream = main_stream(session)
    probes = torch.stack([word_tokens(session, probe) for probe in _PROBES])
    cache = WordCache(session.connected_clip, f"{session.architecture.name} {stream.name}", probes)
    known = cache.read()
    found = {} if known is None else dict.fromkeys(known.words)
    missing = [word for word in dict.fromkeys(words) if word not in found]
    batches = _Batches(session, stream, probes)
    saved = time.monotonic()
    fresh: list[tuple[list[str], Tensor]] = []
    done = 0
    try:
        for part, tokens in batches.encode(missing):
            fresh.append((part, tokens))
            done += len(part)
            progress(done, len(missing), _STAGE)
            if time.monotonic() - saved > _SAVE_SECONDS:
                known, saved = _kept(cache, known, fresh), time.monotonic()
    finally:
        known = _kept(cache, known, fresh)
    assert known is not None  # there is at least one word
    wanted = tuple(dict.fromkeys(words))
    return Words(wanted, known.rows(wanted), done, batches.fast, time.monotonic() - started, tuple(cache.notes))


def _kept(cache: WordCache, known: EncodedWords | None, fresh: list[tuple[list[str], Tensor]]) -> EncodedWords | None:
    """`known` with what is new, which goes into the cache."""
    if not fresh:
        return known
    new = EncodedWords.of([word for part, _ in fresh for word in part], torch.cat([tokens for _, tokens in fresh]))
    fresh.clear()
    joined = new if known is None else known.joined(new)
    cache.write(joined)
    return joined


class _Batches:
    """Encodes words, as many at a time as the CLIP allows."""

    def __init__(self, session: Session, stream: TextStream, probes: Tensor) -> None:
        self._session = session
        self._encoders = _fast_encoders(session, stream, probes)

    @property
    def fast(self) -> bool:
        """Whether many are encoded at a time."""
        return self._encoders is not None

    def encode(self, words: Sequence[str]) -> Iterator[tuple[list[str], Tensor]]:
        """Words and their tokens [k, m, d], a few at a time, in any order."""
        slow = list(words)
        if self._encoders is not None:
            by_length: dict[int, list[tuple[str, Mapping[str, list[int]]]]] = defaultdict(list)
            slow = []
            for word in words:
                check_prompt(word)
                check_inversions(self._session.connected_clip, word)
                ids = _prefix(self._session.connected_clip, word)
                if ids is None:
                    slow.append(word)
                else:
                    by_length[len(next(iter(ids.values())))].append((word, ids))
            for length, entries in sorted(by_length.items()):
                size = max(1, _TOKENS_AT_ONCE // length)
                for start in range(0, len(entries), size):
                    check_cancelled()
                    part = entries[start : start + size]
                    tokens = self._encoders.encode([dict(ids) for _, ids in part])
                    yield [word for word, _ in part], tokens[:, -1:].cpu()
        for word in slow:
            yield [word], word_tokens(self._session, word)[None]


def _fast_encoders(session: Session, stream: TextStream, probes: Tensor) -> CausalEncoders | None:
    """What encodes many words at a time, where it gives what sampling reads."""
    clip = session.connected_clip
    sources = stream.sources
    if clip is None or len(sources) != 1 or not sources[0].windows or session.reader.staged(stream):
        return None
    encoders = causal_encoders(clip)
    ids = [_prefix(clip, probe) for probe in _PROBES]
    if encoders is None or None in ids:
        return None
    found = torch.stack([encoders.encode([dict(one)])[0, -1:].cpu() for one in ids if one is not None])
    same = found.shape == probes.shape and float((found - probes).norm()) <= _SAME * float(probes.norm())
    return encoders if same else None


def _prefix(clip: object, word: str) -> dict[str, list[int]] | None:
    """The ids from the start to the end of text, by tokenizer; None for what is no plain text of one window."""
    found = {}
    for name, windows in tokenize(clip, word, return_word_ids=True).items():
        tokens = windows[0]
        last = max((place for place, (_, _, own) in enumerate(tokens) if own), default=-1)
        if len(windows) > 1 or not 0 <= last < len(tokens) - 1 or not all(isinstance(one[0], int) for one in tokens):
            return None
        found[name] = [int(one[0]) for one in tokens[: last + 2]]
    return found if len({len(ids) for ids in found.values()}) == 1 else None
