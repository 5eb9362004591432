"""What sets a concept apart from other words in the same place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....rece_ops import ConceptPair, Contrast
from ...request.concept_lines import ConceptLine
from ...request.everyday_prompts import WORDS
from ..architectures.detection import TextStream
from .encoded import EncodedPrompt, EncodedTokens, part_label
from .encoder import TextEncoder


@dataclass(frozen=True)
class Comparison:
    """A concept in a context, and other words in its place.

    Attributes:
        line: of the concept.
        prompt: the concept in the context.
        concept: the same, encoded.
        words: the context with every other word.
        target: the target in the context; None where the line has none.
    """

    line: ConceptLine
    prompt: str
    concept: EncodedPrompt
    words: Sequence[EncodedPrompt]
    target: EncodedPrompt | None


def compare_words(
    encoder: TextEncoder, concepts: Sequence[ConceptLine], contexts: Sequence[str]
) -> Iterator[Comparison]:
    """Every concept in each of the contexts, which have '{}' in its place."""
    for context in contexts:
        words = [encoder.encode(context.replace("{}", word)) for word in WORDS]
        for line in concepts:
            prompt = context.replace("{}", line.concept)
            target = encoder.encode(context.replace("{}", line.target)) if line.target else None
            yield Comparison(line, prompt, encoder.encode(prompt), words, target)


def contrasts(stream: TextStream, compared: Sequence[Comparison], embeddings: Sequence[ConceptPair]) -> list[Contrast]:
    """Every concept next to the mean of the other words, and its target, in every source of the stream.

    Also every token of `embeddings` that is not its target's, next to the mean of the bare words.
    """
    if not compared:
        return []
    found = [contrast for comparison in compared for contrast in _of_sources(stream, comparison)]
    word = _mean([prompt.streams[stream.name][0] for prompt in compared[0].words])[:1]
    return [*found, *(contrast for embedding in embeddings for contrast in _of_tokens(embedding, word))]


def _of_sources(stream: TextStream, comparison: Comparison) -> list[Contrast]:
    encoded = comparison.concept.streams[stream.name]
    return [
        Contrast(
            part_label(comparison.prompt, one, len(encoded)),
            one.from_subject,
            _mean([words.streams[stream.name][index] for words in comparison.words]),
            None if comparison.target is None else comparison.target.streams[stream.name][index].from_subject,
            comparison.line.weight,
        )
        for index, one in enumerate(encoded)
    ]


def _of_tokens(embedding: ConceptPair, word: Tensor) -> list[Contrast]:
    tokens = zip(*embedding.all_rows(), strict=True)
    learned = [token for token, target in tokens if not torch.equal(token, target)]
    return [Contrast(f"a token of {embedding.name}", token[None], word, scale=1 / len(learned)) for token in learned]


def _mean(encoded: Sequence[EncodedTokens]) -> Tensor:
    """Mean tokens from the subject token on, as many as all have."""
    tokens = [one.from_subject for one in encoded]
    shortest = min(map(len, tokens))
    return torch.stack([one[:shortest] for one in tokens]).mean(0)
