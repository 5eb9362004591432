"""Which token of a target each token of a concept is mapped to, where the two differ in length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ....rece_ops import ConceptPair
from .encoded import EncodedTokens


def pair_tokens(name: str, concept: EncodedTokens, target: EncodedTokens, weight: float) -> ConceptPair:
    """The pair of a concept and its target.

    Text encoders that pad to windows give both the same places, and are paired place by place as the paper does. Others
    put something after the prompt (end, padding, the rest of a template) wherever the prompt happens to end: there, what
    precedes the prompt, the prompt, and what follows it are each paired with their own kind (see `align`).
    """
    if concept.source.windows:
        other = repeat_to_length(target.tokens, len(concept.tokens))
        return ConceptPair(name, concept.tokens, other, concept.last_subject, target.last_subject, weight)
    other = align(target, concept)
    return ConceptPair(name, concept.tokens, other, concept.last_subject, concept.last_subject, weight)


def mix_targets(pairs: Mapping[ConceptPair, float]) -> ConceptPair:
    """One concept's pairs with several targets as one pair, whose target is c* = Σ w_i a_i in the concept's places.

    UCE's debiasing (arXiv:2308.14761) writes v* = W(c + Σ α_i a_i); with shares w that sum to 1, c* stays as large as a
    prompt's own embedding. The targets fall together from the last subject token of each on, and where one ends sooner,
    its last token goes on.

    Args:
        pairs: of one concept, each with its share w_i; at least one.
    """
    first = next(iter(pairs))
    count, start = len(first.concept), first.concept_start
    mixed = torch.zeros_like(first.concept)
    for pair, share in pairs.items():
        own = pair.target[pair.target_start :]
        placed = torch.cat([_stretch(pair.target, start, pair.target[:1]), _stretch(own, count - start, own[-1:])])
        mixed = mixed + share * placed.to(mixed)
    return replace(first, target=mixed, target_start=start)


def repeat_to_length(target: Tensor, length: int) -> Tensor:
    """The target's windows [n, d] repeated to a length, as sampling does when prompts differ in length."""
    repeats = -(-length // len(target))
    return target if repeats == 1 else target.repeat(repeats, 1)[:length]


def align(target: EncodedTokens, concept: EncodedTokens) -> Tensor:
    """The target's tokens in the concept's places: [as many as the concept has, d].

    The last tokens of both prompts fall together, and so do those after them. Where the concept has more tokens, the
    earlier ones get the target's last token, in which the text encoder has read all of it; an empty target has none, and
    what stands in its place is the token before it, or the first after it.
    """
    tokens, span = target.tokens, target.span
    before, own, after = tokens[: span.first], tokens[span.first : span.end], tokens[span.end :]
    last = own[-1:] if len(own) else before[-1:] if len(before) else after[:1]
    missing = concept.span.end - concept.span.first - len(own)
    inner = torch.cat([last.expand(max(missing, 0), -1), own[max(-missing, 0) :]])
    following = len(concept.tokens) - concept.span.end
    return torch.cat(
        [
            _stretch(before, concept.span.first, last),
            inner,
            _stretch(after, following, last),
        ]
    )


def _stretch(tokens: Tensor, count: int, otherwise: Tensor) -> Tensor:
    """The first `count` tokens, the last one repeated where there are too few."""
    last = tokens[-1:] if len(tokens) else otherwise
    return torch.cat([tokens[:count], last.expand(max(count - len(tokens), 0), -1)])
