"""What sets a concept apart from other words in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....rece_ops import ConceptPair, Contrast
from ...request.concept_lines import ConceptLine
from ...request.erasure_request import ErasureRequest
from ...request.everyday_prompts import WORDS
from ..architectures.detection import TextStream
from ..device import Progress
from .encoder import EncodedPart, EncodedPrompt, TextEncoder, named


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


def comparisons(encoder: TextEncoder, request: ErasureRequest, progress: Progress) -> list[Comparison]:
    """Every concept in each of the request's contexts; one step of `progress` for each."""
    found = []
    for context in request.contexts:
        words = [encoder.encode(context.replace("{}", word)) for word in WORDS]
        for line in request.concepts:
            prompt = context.replace("{}", line.concept)
            target = encoder.encode(context.replace("{}", line.target)) if line.target else None
            found.append(Comparison(line, prompt, encoder.encode(prompt), words, target))
            progress.step()
    return found


def contrasts(stream: TextStream, compared: Sequence[Comparison], embeddings: Sequence[ConceptPair]) -> list[Contrast]:
    """Every concept beside the mean of the other words, and its target, in every part of the stream.

    Besides, every token of `embeddings` that is not its target's, beside the mean of the bare words.
    """
    if not compared:
        return []
    found = [contrast for comparison in compared for contrast in _of_parts(stream, comparison)]
    word = _mean([prompt.streams[stream.name][0] for prompt in compared[0].words])[:1]
    return [*found, *(contrast for embedding in embeddings for contrast in _of_tokens(embedding, word))]


def _of_parts(stream: TextStream, comparison: Comparison) -> list[Contrast]:
    parts = comparison.concept.streams[stream.name]
    return [
        Contrast(
            named(comparison.prompt, part, len(parts)),
            _from_subject(part),
            _mean([words.streams[stream.name][place] for words in comparison.words]),
            None if comparison.target is None else _from_subject(comparison.target.streams[stream.name][place]),
            comparison.line.weight,
        )
        for place, part in enumerate(parts)
    ]


def _of_tokens(embedding: ConceptPair, word: Tensor) -> list[Contrast]:
    rows = zip(*embedding.all_rows(), strict=True)
    learned = [token for token, target in rows if not torch.equal(token, target)]
    return [Contrast(f"a token of {embedding.name}", token[None], word, scale=1 / len(learned)) for token in learned]


def _mean(parts: Sequence[EncodedPart]) -> Tensor:
    """Mean tokens from the subject token on, as many as all have."""
    rows = [_from_subject(part) for part in parts]
    shortest = min(map(len, rows))
    return torch.stack([row[:shortest] for row in rows]).mean(0)


def _from_subject(part: EncodedPart) -> Tensor:
    return part.tokens[part.last_subject :]
