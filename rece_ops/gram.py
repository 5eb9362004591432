"""The Gram matrix of the projections: all that a derivation needs to know of a model's weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .errors import InputError
from .gram_sum import GramSum
from .linalg import float64_device, is_above

_SHARE = 1e-5


def gram_matrix(projections: Mapping[str, Tensor], on_projection: Callable[[str], None] | None = None) -> Tensor:
    """G = Σ_l W_lᵀ W_l over all projections W_l [out_l, d], as a float64 tensor [d, d].

    The mapping is read once, one projection at a time, so it may compute each weight when asked.
    The result is on the device of the projections, or on the CPU where that has no float64. Products of weights in
    float64 are computed in float64, those of all others in float32 (see `GramSum`).

    Args:
        projections: weight by name; all read token embeddings of the same dimension d.
        on_projection: called with the name of each projection after it was added.

    Raises:
        InputError: there is no projection, one is no matrix [out, d], or holds NaN or infinity.
    """
    return measured_gram(projections, on_projection)[0]


def measured_gram(
    projections: Mapping[str, Tensor], on_projection: Callable[[str], None] | None = None, exact: bool = False
) -> tuple[Tensor, float]:
    """`gram_matrix`, and about how far it is from G in the spectral norm.

    Args:
        projections, on_projection: see `gram_matrix`.
        exact: compute every product in float64, whatever the dtype of the weights.
    """
    gram: GramSum | None = None
    for name in projections:
        weight = projections[name]
        if gram is None:
            dimension = weight.shape[-1]
            gram = GramSum(dimension, float64_device(weight.device), exact)
        check_projection(name, weight, dimension)
        gram.add(weight)
        if on_projection is not None:
            on_projection(name)
    if gram is None:
        raise InputError("There is no projection: give the key and value weights of the cross-attention layers.")
    return gram.total(), gram.error


def well_known_gram(
    projections: Mapping[str, Tensor], on_projection: Callable[[str], None], on_second_pass: Callable[[], None]
) -> Tensor:
    """`gram_matrix`, its error in every direction less than a hundred-thousandth of what G is there.

    So a solve with G or its root changes by no more than about that. Where G is too close to singular for float32, the
    projections are read a second time and summed in float64; `on_second_pass` is called before.
    """
    gram, error = measured_gram(projections, on_projection)
    if error == 0 or is_above(gram, error / _SHARE):
        return gram
    del gram
    on_second_pass()
    return measured_gram(projections, on_projection, exact=True)[0]


def check_projection(name: str, weight: Tensor, dimension: int) -> None:
    """Raise InputError unless `weight` is a finite matrix [out, dimension]."""
    if weight.ndim != 2 or weight.shape[1] != dimension:
        raise InputError(
            f"Projection '{name}' has shape {list(weight.shape)}, but the text embeddings have dimension "
            f"{dimension}: give weights [out, {dimension}] that read the same text stream."
        )
    # Both extremes are finite only where every entry is; NaN counts as an extreme.
    if weight.numel() == 0 or not all(math.isfinite(float(extreme)) for extreme in torch.aminmax(weight)):
        raise InputError(
            f"Projection '{name}' holds NaN or infinite values: the checkpoint or a LoRA on it is damaged."
        )


def check_reads(gram: Tensor, dimension: int) -> None:
    """Raise InputError unless projections with the Gram matrix `gram` read token embeddings of that dimension."""
    if len(gram) != dimension:
        raise InputError(
            f"The projections read token embeddings of dimension {len(gram)}, but the concepts have dimension "
            f"{dimension}: the text encoder belongs to another model."
        )
