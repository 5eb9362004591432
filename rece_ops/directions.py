"""The main directions in which concepts differ from other words, in the metric of the model's outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import InputError
from .gram_sum import GramSum
from .linalg import add_to_diagonal, to_float64
from .pairs import Contrast

# The metric of few or narrow projections is singular; this part of its mean eigenvalue is added, which no output shows.
METRIC_FLOOR = 1e-9
# Shares of energy (squares of lengths) below this are rounding.
NEGLIGIBLE = 1e-13


def concept_spectrum(gram: Tensor, contrasts: Sequence[Contrast]) -> Tensor:
    """Share of all differences within `contrasts` that each of their main directions Δ holds, largest first."""
    root = metric_root(gram)
    return main_directions(contrasts, root)[1]


def metric_root(gram: Tensor) -> Tensor:
    """L [d, d], lower triangular, with LLᵀ = G (and a floor under its eigenvalues)."""
    floor = METRIC_FLOOR * float(gram.diagonal().mean())
    root: Tensor = torch.linalg.cholesky(add_to_diagonal(gram.clone(), floor))
    return root


def main_directions(contrasts: Sequence[Contrast], root: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal V [d, m] of the differences Lᵀ(c − o), and the share of their energy that each holds, largest first.

    Every concept counts by its scale, however far it is from the others.

    Args:
        contrasts: concepts c beside others o.
        root: L [d, d].

    Raises:
        InputError: a concept is the same as what it is compared with.
    """
    parts = (weighted_difference(contrast, root)[0] for contrast in contrasts)
    if sum(len(contrast.concept) for contrast in contrasts) <= len(root):
        _, singular, vh = torch.linalg.svd(torch.cat(list(parts)), full_matrices=False)
        energy, vectors = singular.square(), vh.T
    else:
        total = GramSum(len(root), root.device)
        for part in parts:
            total.add(part)
        values, vectors = torch.linalg.eigh(total.total())
        energy, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    return vectors, energy / energy.sum()


def weighted_difference(contrast: Contrast, root: Tensor) -> tuple[Tensor, float]:
    """The rows Lᵀ(c − o) [n, d] of a contrast times its weight, and that weight: √scale over their norm."""
    count = min(len(contrast.concept), len(contrast.others))
    concept, others = (to_float64(side[:count], root.device) for side in (contrast.concept, contrast.others))
    rows: Tensor = (concept - others) @ root
    norm = float(torch.linalg.matrix_norm(rows))
    if norm == 0:
        raise InputError(f"Concept '{contrast.name}' and its target are the same: give another target.")
    weight = math.sqrt(contrast.scale) / norm
    return rows * weight, weight
