"""The token embeddings of everything that an erasure is told of or measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...rece_ops import ConceptPair, InputError
from ..concept_lines import ConceptLine
from ..erasure_request import EMPTY, ErasureRequest
from ..everyday_prompts import MEASURED
from .contrasts import contrasts
from .device import Progress
from .text import TextEncoder


@dataclass(frozen=True)
class Embedded:
    """The token embeddings [n, d] of everything that an erasure is told of or measured with.

    Attributes:
        pairs: what to erase, and towards what.
        preserved: of the preserved prompts and the empty one, by prompt.
        contrasts: what sets concepts apart from other words, where the method asks for it.
        measured: of everyday prompts, by prompt; the erasure does not know them.
        spared: of everyday prompts that it does know.
    """

    pairs: Sequence[ConceptPair]
    contrasts: Sequence[ConceptPair]
    preserved: Mapping[str, Tensor]
    measured: Mapping[str, Tensor]
    spared: Sequence[Tensor]


def embedded(encoder: TextEncoder, request: ErasureRequest, progress: Progress) -> Embedded:
    """Encode what `request` names; one step of `progress` a prompt."""
    return Embedded(
        pairs=[
            *(_pair(encoder, line, prompt, progress) for line, prompt in request.prompts()),
            *_embedding_pairs(encoder, request),
        ],
        contrasts=contrasts(encoder, request, progress),
        preserved=_tokens(encoder, (EMPTY, *request.preserved), progress),
        measured=_tokens(encoder, MEASURED, progress),
        spared=list(_tokens(encoder, request.spared, progress).values()),
    )


def _pair(encoder: TextEncoder, line: ConceptLine, prompt: str, progress: Progress) -> ConceptPair:
    concept, target = encoder.encode(prompt), encoder.encode(line.target)
    progress.step()
    target_tokens = _as_long_as(target.tokens, concept.tokens)
    if torch.equal(concept.tokens, target_tokens):
        raise InputError(
            f"The concept '{prompt}' and its target '{line.target}' have the same embedding, so there is nothing to "
            "erase: give another target, or check that the textual inversion in it exists."
        )
    return ConceptPair(prompt, concept.tokens, target_tokens, concept.last_subject, target.last_subject, line.weight)


def _embedding_pairs(encoder: TextEncoder, request: ErasureRequest) -> list[ConceptPair]:
    """Pairs of connected embeddings; only the first token, which all prompts share, is left out of the first edit."""
    target = encoder.encode(request.concepts[0].target).tokens
    return [
        ConceptPair(f"embedding {number}", tokens, _as_long_as(target, tokens), 1, 1)
        for number, tokens in enumerate(request.embeddings, start=1)
    ]


def _as_long_as(target: Tensor, concept: Tensor) -> Tensor:
    """The target's windows repeated to the concept's length, as sampling does when prompts differ in length."""
    repeats = -(-concept.shape[0] // target.shape[0])
    return target if repeats == 1 else target.repeat(repeats, 1)[: concept.shape[0]]


def _tokens(encoder: TextEncoder, prompts: Sequence[str], progress: Progress) -> dict[str, Tensor]:
    found = {}
    for prompt in prompts:
        found[prompt] = encoder.encode(prompt).tokens
        progress.step()
    return found
