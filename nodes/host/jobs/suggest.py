"""What else to erase, what to preserve and where to send it: the words of a vocabulary next to a concept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ....rece_ops import Eraser, EraserSet, InputError, gram_matrix
from ....rece_ops.measures.kinds import can_tell_kinds, kind_distances, nearest_kin, target_of_kind
from ....rece_ops.measures.words import (
    TARGET_LIKENESS,
    TARGET_SHARE,
    Standing,
    WordSpace,
    best_target,
    is_told_from,
    likest,
)
from ....rece_ops.progress import Progress
from ....rece_ops.texts import quoted
from ...request.concept_lines import ConceptLine, text_key
from ...request.erasure_request import EMPTY
from ...request.suggestion_request import SuggestionRequest
from ..progress import JobProgress
from ..session import Session
from ..text.vocabulary import whole_words
from .encode_words import Words, encode_words, main_stream, word_tokens


@dataclass(frozen=True)
class Found:
    """A word, and how it stands to a concept: see `rece_ops.measures.words`."""

    word: str
    likeness: float
    share: float


@dataclass(frozen=True)
class Suggestion:
    """What was found for one concept.

    Attributes:
        line: as it was typed.
        synonyms: to erase with it, likest first.
        neighbours: to preserve, likest first.
        kin: other words of its kind, to preserve as well, nearest first; None where kinds cannot be told.
        target: where to send it, where the line says nothing; None where no word will do.
        leaks: with an eraser: words that still have a share of the concept, the most first.
        left: with an eraser: the concept's own share after it.
    """

    line: ConceptLine
    synonyms: tuple[Found, ...]
    neighbours: tuple[Found, ...]
    target: Found | None
    kin: tuple[Found, ...] | None = None
    leaks: tuple[Found, ...] = ()
    left: float | None = None


@dataclass(frozen=True)
class Price:
    """How far the words of the vocabulary moved through an eraser, relative to their size: median, and nineteen of twenty."""

    median: float
    most: float


@dataclass(frozen=True)
class Suggestions:
    """What was found.

    Attributes:
        found: for each concept.
        words: that were looked at.
        price: of the eraser, where there is one.
    """

    found: tuple[Suggestion, ...]
    words: Words
    price: Price | None


def suggest(session: Session, request: SuggestionRequest, eraser: EraserSet | None = None) -> Suggestions:
    """Look at every word next to every concept.

    Raises:
        InputError: there are no words, a concept reads as the empty prompt does, or see `TextEncoder.encode`.
        WrongConnectionError: CLIP, MODEL and ERASER do not belong together.
    """
    progress = JobProgress(read=2, encode=10, kinds=2, compare=1)
    stream = main_stream(session)
    if eraser is not None:
        session.transformed_streams(eraser)
    transform = None if eraser is None else eraser.transforms[stream.name]
    gram = gram_matrix(session.weights(stream), progress.part("read"))
    own = [_own_tokens(session, line.concept, gram) for line in request.concepts]
    vocabulary = whole_words(session.connected_clip)[: request.vocabulary]
    words = encode_words(session, [*vocabulary, *request.words], progress.part("encode"))
    kinds = told_kinds(session, request, own, words, progress.part("kinds"))
    return compare(request, own, words, WordSpace(gram, words.tokens), kinds, transform, progress.part("compare"))


def told_kinds(
    session: Session, request: SuggestionRequest, own: Sequence[Tensor], words: Words, progress: Progress
) -> Tensor | None:
    """How far the common words are from each concept in kind [c, n]; None where this MODEL, or so few words, cannot tell."""
    stream = main_stream(session)
    common = words.tokens[: request.common]
    if not can_tell_kinds(len(stream.keys), len(common)):
        return None
    return kind_distances(session.weights(stream), common, torch.stack(list(own)), progress)


def compare(
    request: SuggestionRequest,
    own: Sequence[Tensor],
    words: Words,
    space: WordSpace,
    kinds: Tensor | None,
    transform: Eraser | None,
    progress: Progress,
) -> Suggestions:
    """The same from encoded words.

    Args:
        request: names the concepts, and the limits.
        own: tokens [m, d] of each concept.
        words: of the vocabulary.
        space: of the same words.
        kinds: as `told_kinds` gives them.
        transform: of the eraser.
        progress: called for every concept.
    """
    erased = {text_key(line.concept) for line in request.concepts}
    others = torch.tensor([text_key(word) not in erased for word in words.words])
    found = []
    for done, (line, concept) in enumerate(zip(request.concepts, own, strict=True), start=1):
        standing = space.standing(words.tokens, concept)
        distances = None if kinds is None else kinds[done - 1]
        one = _suggestion(request, line, words.words, standing, distances, others)
        if transform is not None:
            after = space.standing(words.tokens, concept, transform)
            left = float(space.standing(concept[None], concept, transform).share)
            one = replace(one, leaks=_leaks(request, words.words, standing, after, others), left=left)
        found.append(one)
        progress(done, len(request.concepts), "comparing words")
    price = None if transform is None else _price(space.drift(words.tokens, transform))
    return Suggestions(_apart(found), words, price)


def _own_tokens(session: Session, concept: str, gram: Tensor) -> Tensor:
    """The tokens [m, d] of a concept, which must say something."""
    stream = main_stream(session).name
    said, nothing = (session.encoder.encode(text).tokens(stream) for text in (concept, EMPTY))
    count = min(len(said), len(nothing))
    if not is_told_from(gram, said[:count], nothing[:count]):
        raise InputError(
            f"The text encoder reads the concept {quoted(concept)} as it reads the empty prompt, so that no word can be compared "
            "with it: write it in other words."
        )
    return word_tokens(session, concept)


def _suggestion(
    request: SuggestionRequest,
    line: ConceptLine,
    words: Sequence[str],
    standing: Standing,
    distances: Tensor | None,
    others: Tensor,
) -> Suggestion:
    likeness = standing.likeness.where(others, float("-inf"))

    def chosen(places: Sequence[int]) -> tuple[Found, ...]:
        return tuple(_found(words, standing, place) for place in places)

    # What says something else, and is common.
    apart = others & (standing.share <= TARGET_SHARE) & (standing.likeness <= min(TARGET_LIKENESS, request.alike))
    apart[request.common :] = False
    if distances is None:
        target, kin = best_target(standing, apart, request.near), None
    else:
        apart = apart[: len(distances)]
        target = target_of_kind(distances, apart)
        kin = chosen(nearest_kin(distances, apart, request.most_neighbours))
    return Suggestion(
        line,
        chosen(likest(likeness, request.most_synonyms, request.alike)),
        chosen(likest(likeness, request.most_neighbours, request.near, request.alike)),
        None if line.target or target is None else _found(words, standing, target),
        kin,
    )


def _leaks(
    request: SuggestionRequest, words: Sequence[str], before: Standing, after: Standing, others: Tensor
) -> tuple[Found, ...]:
    share = after.share.where(others, float("-inf"))
    places = likest(share, request.most_synonyms, request.leak)
    return tuple(Found(words[place], float(before.likeness[place]), float(after.share[place])) for place in places)


def _found(words: Sequence[str], standing: Standing, place: int) -> Found:
    return Found(words[place], float(standing.likeness[place]), float(standing.share[place]))


def _price(drift: Tensor) -> Price:
    median, most = (float(drift.quantile(part)) for part in (0.5, 0.95))
    return Price(median, most)


def _apart(found: Sequence[Suggestion]) -> tuple[Suggestion, ...]:
    """What is to be erased for one concept is not preserved, or a target, for another."""
    erased = {text_key(one.word) for suggestion in found for one in (*suggestion.synonyms, *suggestion.leaks)}
    return tuple(
        replace(
            one,
            neighbours=_without(one.neighbours, erased),
            kin=None if one.kin is None else _without(one.kin, erased),
            target=one.target if one.target is None or text_key(one.target.word) not in erased else None,
        )
        for one in found
    )


def _without(found: Sequence[Found], erased: Collection[str]) -> tuple[Found, ...]:
    return tuple(one for one in found if text_key(one.word) not in erased)
