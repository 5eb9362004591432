"""The Gram matrix of the projections: all that a derivation needs to know of a model's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .errors import InputError
from .linalg import add_upper_gram, float64_device, mirror_upper

_CHUNK_ROWS = 4096


def gram_matrix(projections: Mapping[str, Tensor], on_projection: Callable[[str], None] | None = None) -> Tensor:
    """G = Σ_l W_lᵀ W_l over all projections W_l [out_l, d], as a float64 tensor [d, d].

    The mapping is read once, one projection at a time, so it may compute each weight when asked.
    The result is on the device of the projections, or on the CPU where that has no float64.

    Args:
        projections: weight by name; all read token embeddings of the same dimension d.
        on_projection: called with the name of each projection after it was added.

    Raises:
        InputError: there is no projection, one is no matrix [out, d], or holds NaN or infinity.
    """
    total: Tensor | None = None
    for name in projections:
        weight = projections[name]
        if total is None:
            device = float64_device(weight.device)
            columns = weight.shape[-1]
            total = torch.zeros(columns, columns, dtype=torch.float64, device=device)
        check_projection(name, weight, total.shape[0])
        for rows in torch.split(weight.to(total.device), _CHUNK_ROWS):
            add_upper_gram(total, rows.to(torch.float64))
        if on_projection is not None:
            on_projection(name)
    if total is None:
        raise InputError("There is no projection: give the key and value weights of the cross-attention layers.")
    return mirror_upper(total)


def check_projection(name: str, weight: Tensor, dimension: int) -> None:
    """Raise InputError unless `weight` is a finite matrix [out, dimension]."""
    if weight.ndim != 2 or weight.shape[1] != dimension:
        raise InputError(
            f"Projection '{name}' has shape {list(weight.shape)}, but the text embeddings have dimension "
            f"{dimension}: give weights [out, {dimension}] that read the same text stream."
        )
    if not bool(torch.isfinite(weight).all()):
        raise InputError(
            f"Projection '{name}' holds NaN or infinite values: the checkpoint or a LoRA on it is damaged."
        )
