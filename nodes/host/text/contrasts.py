"""What sets a concept apart from other words in the same place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ....rece_ops import ConceptPair, Contrast, Differences
from ....rece_ops.progress import Progress, Steps
from ...request.concept_lines import ConceptLine
from ...request.everyday_prompts import WORDS
from ...request.methods import EncodedRequest
from .encoded import EncodedPrompt, EncodedTokens, part_label
from .encoder import TextEncoder

# Concepts to encode at a time: what is held meanwhile.
_TOGETHER = 8


def gather_differences(
    encoder: TextEncoder,
    concepts: Sequence[ConceptLine],
    contexts: Sequence[str],
    encoded: Mapping[str, EncodedRequest],
    grams: Mapping[str, Tensor],
    progress: Progress,
) -> dict[str, Differences]:
    """Every concept next to the mean of other words, and its target, in each context and every source of a stream.

    A few concepts at a time are encoded and gathered for all text streams, and none is kept. In the end come the tokens of
    connected embeddings that are not their targets', next to the mean of the bare words.

    Args:
        encoder: of the prompts.
        concepts: what to erase.
        contexts: each with '{}' in the concept's place.
        encoded: of every text stream.
        grams: G [d, d] of the same, by name.
        progress: called for every concept in each context.
    """
    found = {name: Differences(gram, [pair.name for pair in encoded[name].pairs]) for name, gram in grams.items()}
    steps = Steps(progress, len(contexts) * len(concepts))
    bare: dict[str, Tensor] = {}
    for context in contexts:
        others = _others(encoder, context, found)
        bare = bare or {name: sources[0][:1] for name, sources in others.items()}
        for start in range(0, len(concepts), _TOGETHER):
            lines = concepts[start : start + _TOGETHER]
            words = dict.fromkeys(word for line in lines for word in (line.concept, line.target) if word)
            prompts = encoder.encode_together([context.replace("{}", word) for word in words])
            for line in lines:
                _add(found, prompts, context, line, others)
                steps.done("comparing concepts with other words")
    for name, differences in found.items():
        for embedding in encoded[name].given:
            for contrast in _of_tokens(embedding, bare[name]):
                differences.add(contrast)
    return found


def _add(
    found: Mapping[str, Differences],
    prompts: Mapping[str, EncodedPrompt],
    context: str,
    line: ConceptLine,
    others: Mapping[str, Sequence[Tensor]],
) -> None:
    prompt = context.replace("{}", line.concept)
    concept = prompts[prompt].streams
    target = prompts[context.replace("{}", line.target)].streams if line.target else None
    for name, differences in found.items():
        for index, one in enumerate(concept[name]):
            differences.add(
                Contrast(
                    part_label(prompt, one, len(concept[name])),
                    one.from_subject,
                    others[name][index],
                    None if target is None else target[name][index].from_subject,
                    line.weight,
                )
            )


def _others(encoder: TextEncoder, context: str, streams: Iterable[str]) -> dict[str, list[Tensor]]:
    """The mean of all other words in that context, for every source of every text stream."""
    prompts = encoder.encode_together([context.replace("{}", word) for word in WORDS])
    words = [prompt.streams for prompt in prompts.values()]
    return {name: [_mean(sources) for sources in zip(*(word[name] for word in words), strict=True)] for name in streams}


def _of_tokens(embedding: ConceptPair, word: Tensor) -> list[Contrast]:
    tokens = zip(*embedding.all_tokens(), strict=True)
    learned = [token for token, target in tokens if not torch.equal(token, target)]
    return [Contrast(f"a token of {embedding.name}", token[None], word, scale=1 / len(learned)) for token in learned]


def _mean(encoded: Sequence[EncodedTokens]) -> Tensor:
    """Mean tokens from the subject token on, as many as all have."""
    tokens = [one.from_subject for one in encoded]
    shortest = min(map(len, tokens))
    return torch.stack([one[:shortest] for one in tokens]).mean(0)
