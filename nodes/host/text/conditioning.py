"""CONDITIONING: a list of [token embeddings [batch, n, d], values], of which none is ever changed in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....rece_ops import InputError
from ..architectures.sources import POOLED, TokenSlot
from ..errors import WrongConnectionError

Conditioning = list[list[Any]]
Entry = tuple[Tensor, dict[str, Any]]


@dataclass(frozen=True)
class NewTokens:
    """Other tokens for CONDITIONING.

    Attributes:
        slot: where it holds them.
        places: where in the slot they go, indices [k].
        tokens: [k, d].
    """

    slot: TokenSlot
    places: Tensor
    tokens: Tensor


def entries_of(conditioning: Conditioning) -> list[Entry]:
    """Every prompt in CONDITIONING on its own: token embeddings [1, n, d] and values.

    Raises:
        WrongConnectionError: it is empty, or holds something else than token embeddings.
    """
    if not conditioning:
        raise WrongConnectionError(
            "CONDITIONING is empty: connect the output of 'Invert Concept' or of a text encoder."
        )
    for embedding, _ in conditioning:
        if embedding.ndim != 3:
            raise WrongConnectionError(
                f"CONDITIONING holds embeddings {list(embedding.shape)}, which are no token embeddings [batch, tokens, "
                "dimension]: connect one that was made for this model."
            )
    return [
        (embedding[place : place + 1], _of_batch(values, place, len(embedding)))
        for embedding, values in conditioning
        for place in range(len(embedding))
    ]


def with_tokens(conditioning: Conditioning, changes: Sequence[NewTokens]) -> Conditioning:
    """The same with other tokens in places of the first prompt."""
    ((embedding, values), *_) = conditioning
    with torch.inference_mode(False):
        held = {"": embedding.clone()}
        for change in changes:
            key = change.slot.key
            if key not in held:
                held[key] = values[key].clone()
            change.slot.of_first_prompt(held[key])[change.places] = change.tokens.to(held[key])
    return [[held.pop(""), {**values, **held}]]


def _of_batch(values: dict[str, Any], place: int, size: int) -> dict[str, Any]:
    return {
        name: value[place : place + 1] if isinstance(value, Tensor) and value.ndim > 1 and len(value) == size else value
        for name, value in values.items()
    }


def with_added(conditioning: Conditioning, tokens: Tensor, pooled: Tensor | None) -> Conditioning:
    """The same with `tokens` [n, d] added to the embeddings of every window of n, and `pooled` [1, p] to the pooled output.

    Raises:
        WrongConnectionError: CONDITIONING is None or empty, or comes from a text encoder of another kind.
    """
    if not conditioning:
        raise WrongConnectionError("CONDITIONING is None or empty: connect the output of a text-encoding node.")
    return [[_added(embedding, tokens), _with_pooled(values, pooled)] for embedding, values in conditioning]


def _added(embedding: Tensor, tokens: Tensor) -> Tensor:
    if embedding.ndim != 3 or embedding.shape[-1] != tokens.shape[-1]:
        raise WrongConnectionError(
            f"CONDITIONING holds embeddings {list(embedding.shape)}, but this CLIP makes [1, {tokens.shape[0]}, "
            f"{tokens.shape[1]}]: encode the prompt with the same CLIP."
        )
    repeats = -(-embedding.shape[1] // tokens.shape[0])
    return embedding + tokens.repeat(repeats, 1)[: embedding.shape[1]].to(embedding)


def _with_pooled(values: dict[str, Any], pooled: Tensor | None) -> dict[str, Any]:
    old = values.get(POOLED)
    if old is None or pooled is None:
        return dict(values)
    if old.shape[-1] != pooled.shape[-1]:
        raise InputError(
            f"The pooled output of CONDITIONING has {old.shape[-1]} numbers, but this CLIP makes {pooled.shape[-1]}: "
            "encode the prompt with the same CLIP."
        )
    return {**values, POOLED: old + pooled.to(old)}
