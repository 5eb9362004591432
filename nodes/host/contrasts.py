"""What sets a concept apart from other words in the same place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ...rece_ops import ConceptPair, Contrast, Differences
from ..erasure_request import ErasureRequest
from ..everyday_prompts import WORDS
from .device import Progress
from .embedding import Embedded
from .text import EncodedPart, TextEncoder, named


def gather_differences(
    encoder: TextEncoder,
    request: ErasureRequest,
    known: Mapping[str, Embedded],
    grams: Mapping[str, Tensor],
    progress: Progress,
) -> dict[str, Differences]:
    """Every concept beside the mean of other words, and its target, in each of the request's contexts and every part.

    One prompt after the other is encoded and gathered for all text streams, and none is kept. In the end come the tokens of
    connected embeddings that are not their targets', beside the mean of the bare words. One step of `progress` for each
    concept in each context.

    Args:
        encoder: of the prompts.
        request: what to erase, and in which contexts.
        known: of every text stream.
        grams: G [d, d] of the same, by name.
        progress: is told.
    """
    found = {name: Differences(gram, [pair.name for pair in known[name].pairs]) for name, gram in grams.items()}
    bare: dict[str, Tensor] = {}
    for context in request.contexts:
        others = _others(encoder, context, found)
        bare = bare or {name: parts[0][:1] for name, parts in others.items()}
        for line in request.concepts:
            prompt = context.replace("{}", line.concept)
            concept = encoder.encode(prompt, keep=False).streams
            target = encoder.encode(context.replace("{}", line.target), keep=False).streams if line.target else None
            for name, differences in found.items():
                for place, part in enumerate(concept[name]):
                    differences.add(
                        Contrast(
                            named(prompt, part, len(concept[name])),
                            _from_subject(part),
                            others[name][place],
                            None if target is None else _from_subject(target[name][place]),
                            line.weight,
                        )
                    )
            progress.step()
    for name, differences in found.items():
        for embedding in known[name].given:
            for contrast in _of_tokens(embedding, bare[name]):
                differences.add(contrast)
    return found


def _others(encoder: TextEncoder, context: str, streams: Iterable[str]) -> dict[str, list[Tensor]]:
    """The mean of all other words in that context, for every part of every text stream."""
    words = [encoder.encode(context.replace("{}", word), keep=False).streams for word in WORDS]
    return {name: [_mean(parts) for parts in zip(*(word[name] for word in words), strict=True)] for name in streams}


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
