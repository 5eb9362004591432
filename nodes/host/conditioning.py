"""CONDITIONING: a list of [token embeddings [batch, n, d], values], of which none is ever changed in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...rece_ops import InputError
from .errors import WrongConnectionError

Conditioning = list[list[Any]]
POOLED = "pooled_output"


def tokens_of(conditioning: Conditioning, dimension: int) -> list[Tensor]:
    """The token embeddings [n, dimension] of every entry of CONDITIONING.

    Raises:
        WrongConnectionError: it is empty, or comes from a text encoder of another kind.
    """
    if not conditioning:
        raise WrongConnectionError(
            "CONDITIONING is empty: connect the output of 'Invert Concept' or of a text encoder."
        )
    for embedding, _ in conditioning:
        if embedding.ndim != 3 or embedding.shape[-1] != dimension:
            raise WrongConnectionError(
                f"CONDITIONING holds embeddings {list(embedding.shape)}, but the MODEL reads token embeddings of "
                f"dimension {dimension}: connect one that was made for this model."
            )
    return [tokens for embedding, _ in conditioning for tokens in embedding]


def with_tokens(conditioning: Conditioning, tokens: Tensor) -> Conditioning:
    """The same with other token embeddings [n, d]."""
    with torch.inference_mode(False):
        batch = tokens[None].clone()
    return [[batch, dict(values)] for _, values in conditioning]


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
