"""The Gram matrix of the key and value weights: all that a derivation needs to know of a model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..errors import InputError
from ..progress import Progress, Steps
from ..texts import quoted
from .finite import is_finite
from .solves import GramSum, float64_device


def gram_matrix(weights: Mapping[str, Tensor], progress: Progress | None = None) -> Tensor:
    """G = Σ_l W_lᵀ W_l over all key and value weights W_l [out_l, d], as a float64 tensor [d, d].

    The mapping is read once, one weight at a time, so it may compute each weight when asked.
    The result is on the device of the key and value weights, or on the CPU where that has no float64.

    Args:
        weights: weight by name; all read token embeddings of the same dimension d.
        progress: called as progress(done, total, stage) after each was added; may raise to cancel.

    Raises:
        InputError: there is no weight, one is no matrix [out, d], or holds NaN or infinity, or all are zero or so
            large or small that their squares leave float64.
    """
    gram: GramSum | None = None
    steps = Steps(progress, len(weights))
    for name in weights:
        weight = weights[name]
        if gram is None:
            dimension = weight.shape[-1]
            gram = GramSum(dimension, float64_device(weight.device))
        check_projection(name, weight, dimension)
        gram.add(weight)
        steps.done("reading weights")
    if gram is None:
        raise InputError("There is no weight: give the key and value weights of the cross-attention layers.")
    total = gram.total()
    energy = float(total.diagonal().sum())
    if not 0 < energy < float("inf"):
        raise InputError(
            f"The squares of all {len(weights)} key and value weights sum up to {energy:g}: they are all zero, or far "
            "beyond any model's. The checkpoint or a LoRA on it is damaged: load another."
        )
    return total


def check_projection(name: str, weight: Tensor, dimension: int) -> None:
    """Raise InputError unless `weight` is a finite matrix [out ≥ 1, dimension]."""
    if weight.ndim != 2 or weight.shape[1] != dimension:
        raise InputError(
            f"Weight {quoted(name)} has shape {list(weight.shape)}, but the text embeddings have dimension "
            f"{dimension}: give weights [out, {dimension}] that read the same text stream."
        )
    if weight.numel() == 0:
        raise InputError(f"Weight '{name}' is empty ({list(weight.shape)}): the checkpoint is damaged, load another.")
    if not is_finite(weight):
        raise InputError(
            f"Weight {quoted(name)} holds NaN or infinite values: the checkpoint or a LoRA on it is damaged."
        )


def check_reads(gram: Tensor, dimension: int) -> None:
    """Raise InputError unless key and value weights with the Gram matrix `gram` read token embeddings of that dimension."""
    if len(gram) != dimension:
        raise InputError(
            f"The key and value weights read token embeddings of dimension {len(gram)}, but the concepts have dimension "
            f"{dimension}: the text encoder belongs to another model."
        )
