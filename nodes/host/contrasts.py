"""What sets a concept apart from other words in the same place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...rece_ops import ConceptPair
from ..erasure_request import EMPTY, ErasureRequest
from ..everyday_prompts import WORDS
from .device import Progress
from .text import EncodedPrompt, TextEncoder


def contrasts(encoder: TextEncoder, request: ErasureRequest, progress: Progress) -> list[ConceptPair]:
    """Every concept beside the mean of other words in each of the request's contexts, from the subject token on.

    Besides, every token of the request's embeddings that is not the empty prompt's, beside the mean of words.
    """
    found: list[ConceptPair] = []
    for context in request.contexts:
        words = _mean([encoder.encode(context.replace("{}", word)) for word in WORDS])
        for line in request.concepts:
            prompt = context.replace("{}", line.concept)
            concept = _from_subject(encoder.encode(prompt))
            found.append(ConceptPair(prompt, concept, words, scale=line.weight))
            progress.step()
    if request.contexts:
        found += _of_embeddings(encoder, request.embeddings)
    return found


def contrast_steps(request: ErasureRequest) -> int:
    """How many steps of `progress` that takes."""
    return len(request.contexts) * len(request.concepts)


def _of_embeddings(encoder: TextEncoder, embeddings: Sequence[Tensor]) -> list[ConceptPair]:
    empty = encoder.encode(EMPTY).tokens
    word = _mean([encoder.encode(word) for word in WORDS])[:1]
    found = []
    for number, tokens in enumerate(embeddings, start=1):
        shared = min(len(tokens), len(empty))
        learned = [token for token, same in zip(tokens[:shared], empty, strict=False) if not torch.equal(token, same)]
        for token in learned:
            found.append(ConceptPair(f"a token of embedding {number}", token[None], word, scale=1 / len(learned)))
    return found


def _mean(prompts: Sequence[EncodedPrompt]) -> Tensor:
    """Mean token embeddings from the subject token on, as many as all prompts have."""
    parts = [_from_subject(prompt) for prompt in prompts]
    shortest = min(map(len, parts))
    return torch.stack([part[:shortest] for part in parts]).mean(0)


def _from_subject(prompt: EncodedPrompt) -> Tensor:
    return prompt.tokens[prompt.last_subject :]
