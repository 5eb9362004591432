"""What sets a concept apart from other words in the same place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....rece_ops import ConceptPair, Contrast, Differences
from ....rece_ops.linear.moments import TokenSum
from ....rece_ops.progress import Progress, Steps
from ...request.concept_lines import ConceptLine
from ...request.everyday_prompts import WORDS
from ...request.methods import EncodedRequest
from .encoded import EncodedPrompt, EncodedTokens, part_label
from .encoder import TextEncoder

# Concepts to encode at a time: what is held meanwhile.
_TOGETHER = 8


@dataclass(frozen=True)
class PromptPair:
    """A prompt with a concept, the same without it, and how much it counts."""

    prompt: str
    without: str
    weight: float = 1.0


def gather_examples(
    encoder: TextEncoder,
    pairs: Sequence[PromptPair],
    found: Mapping[str, Differences],
    scale: float,
    progress: Progress,
) -> dict[str, TokenSum]:
    """Add what sets prompts with a concept apart from those without it, in every source of every text stream.

    A few pairs at a time are encoded and gathered for all text streams, and none is kept.

    Args:
        encoder: of the prompts.
        pairs: at least one.
        found: the differences of every text stream, by its name, which they are added to.
        scale: of all pairs together.
        progress: called for every pair.

    Returns:
        What the prompts without the concept have from their last token on, by the name of the text stream; streams in which no pair
        differs are left out.
    """
    sums = {name: TokenSum(len(one.gram), one.gram.device) for name, one in found.items()}
    total = sum(pair.weight for pair in pairs)
    steps = Steps(progress, len(pairs))
    for start in range(0, len(pairs), _TOGETHER):
        part = pairs[start : start + _TOGETHER]
        prompts = encoder.encode_together([text for pair in part for text in (pair.prompt, pair.without)])
        for pair in part:
            for name, differences in found.items():
                for contrast in _of_pair(pair, prompts, name, scale * pair.weight / total):
                    differences.add(contrast)
                    sums[name].add(contrast.others)
            steps.done("comparing examples")
    return {name: one for name, one in sums.items() if one.count}


def gather_differences(
    encoder: TextEncoder,
    concepts: Sequence[ConceptLine],
    contexts: Sequence[str],
    encoded: Mapping[str, EncodedRequest],
    found: Mapping[str, Differences],
    progress: Progress,
) -> None:
    """Add every concept next to the mean of other words, and its target, in each context and every source of a stream.

    A few concepts at a time are encoded and gathered for all text streams, and none is kept. In the end come the tokens of
    connected embeddings that are not their targets', next to the mean of the bare words.

    Args:
        encoder: of the prompts.
        concepts: what to erase; none where examples say all of it.
        contexts: each with '{}' in the concept's place.
        encoded: of every text stream.
        found: the differences of every text stream, by its name, which they are added to.
        progress: called for every concept in each context.
    """
    contexts = contexts if concepts else contexts[:1]
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


def _of_pair(pair: PromptPair, prompts: Mapping[str, EncodedPrompt], stream: str, scale: float) -> Iterator[Contrast]:
    """What a prompt with the concept has next to the one without it, in every source of a stream where they differ."""
    sides = (prompts[text].streams[stream] for text in (pair.prompt, pair.without))
    for one, other in zip(*sides, strict=True):
        rows, others = one.from_subject, other.from_subject
        count = min(len(rows), len(others))
        if not torch.equal(rows[:count], others[:count]):
            yield Contrast(pair.prompt, rows, others, scale=scale)


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
