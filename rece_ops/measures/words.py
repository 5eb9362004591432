"""How words stand to a concept: which say the same, which are near, which would do in its place, and which bring it back.

A word's tokens x [m, d] are looked at as the model's outputs tell them apart: y = Lᵀx with LLᵀ = G, so that ‖y‖ = ‖x‖_G. Over the n
words of a vocabulary, with their mean μ (of each of the m tokens) and covariance Σ of y,

    z = R⁻¹(y − μ)        RRᵀ = Σ + κ·(tr Σ / d)·I

In z, what many words differ by (how common they are, their part of speech) counts little, and what sets a word apart from others
counts most. Of a word w and a concept c:

    likeness = ⟨z_w, z_c⟩ / (‖z_w‖ ‖z_c‖)      how alike the two are, −1 … 1
    share    = ⟨z_w, z_c⟩ / ⟨z_c, z_c⟩          how much of what sets the concept apart is in the word

The *synonyms* of a concept are the words whose likeness is at least a limit, its *neighbours* the likest of the others. What may be a
*target* has a likeness of at most `TARGET_LIKENESS` and at most `TARGET_SHARE` of the concept: far enough that the concept is gone. Which
of these draws a picture of the same sort, `kinds` tells. A word *leaks* through an erasure T if T x still has a share of the concept
above a limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..eraser import Eraser
from ..errors import InputError
from ..linear.directions import metric_root
from ..linear.gram_sum import GramSum
from ..linear.solves import add_to_diagonal, to_float64

SHRINKAGE = 1.0
"""κ: how much the covariance of words is drawn towards one that is the same in all directions."""
TARGET_SHARE = TARGET_LIKENESS = 0.5
# A concept whose outputs differ from the empty prompt's by less than this part of them cannot be told from it.
LEAST_DIFFERENCE = 1e-3
_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Standing:
    """How n words stand to one concept.

    Attributes:
        likeness: [n], −1 … 1.
        share: [n], 1 for the concept itself.
    """

    likeness: Tensor
    share: Tensor


class WordSpace:
    """The words of a vocabulary as the model's outputs tell them apart (see the module's head).

    Args:
        gram: G [d, d] of the key and value weights, float64; everything is computed on its device.
        tokens: x [n, m, d] of the vocabulary's words, n ≥ 2.

    Raises:
        InputError: the tokens have another dimension, or all words are the same.
    """

    def __init__(self, gram: Tensor, tokens: Tensor) -> None:
        if tokens.ndim != 3 or tokens.shape[0] < 2 or tokens.shape[2] != len(gram):
            raise InputError(f"The words are {list(tokens.shape)}: give at least two, [words, tokens, {len(gram)}].")
        self._root = metric_root(gram)
        self._mean = _mean(tokens, gram.device)
        total = GramSum(len(gram), gram.device, exact=True)
        for part in torch.split(tokens, _AT_ONCE):
            total.add((to_float64(part, gram.device) - self._mean).flatten(0, 1))
        spread = self._root.T @ total.total() @ self._root
        size = float(spread.diagonal().mean())
        if not size > 0:
            raise InputError("All words have the same tokens: the text encoder is damaged, or reads none of them.")
        factor = torch.linalg.cholesky(add_to_diagonal(spread, SHRINKAGE * size))
        self._map = torch.linalg.solve_triangular(factor, self._root.T, upper=False).T

    def standing(self, tokens: Tensor, concept: Tensor, eraser: Eraser | None = None) -> Standing:
        """How words stand to a concept, after `eraser` where there is one.

        Args:
            tokens: x [n, m, d] of the words.
            concept: x [m, d] of the concept, before any erasure.
            eraser: T, which words go through.
        """
        (centre,) = self._coordinates(concept[None])
        pairs = [self._compared(part, centre, eraser) for part in torch.split(tokens, _AT_ONCE)]
        likeness, share = (torch.cat(column) for column in zip(*pairs, strict=True))
        return Standing(likeness, share)

    def drift(self, tokens: Tensor, eraser: Eraser) -> Tensor:
        """‖(T − I) x‖_G / ‖x‖_G of every word [n]."""
        return torch.cat([self._drift(part, eraser) for part in torch.split(tokens, _AT_ONCE)])

    def _drift(self, tokens: Tensor, eraser: Eraser) -> Tensor:
        rows = to_float64(tokens, self._root.device)
        moved = eraser.to(rows.device, rows.dtype).apply_to_context(rows) - rows
        lengths = [torch.linalg.vector_norm((one @ self._root).flatten(1), dim=1) for one in (moved, rows)]
        return (lengths[0] / lengths[1].clamp(min=torch.finfo(torch.float64).tiny)).cpu()

    def _compared(self, tokens: Tensor, centre: Tensor, eraser: Eraser | None) -> tuple[Tensor, Tensor]:
        found = self._coordinates(tokens, eraser)
        inner, size = found @ centre, torch.linalg.vector_norm(centre)
        lengths = torch.linalg.vector_norm(found, dim=1).clamp(min=torch.finfo(torch.float64).tiny)
        return (inner / (lengths * size)).cpu(), (inner / size.square()).cpu()

    def _coordinates(self, tokens: Tensor, eraser: Eraser | None = None) -> Tensor:
        """z [n, m·d]."""
        rows = to_float64(tokens, self._root.device)
        if eraser is not None:
            rows = eraser.to(rows.device, rows.dtype).apply_to_context(rows)
        return ((rows - self._mean) @ self._map).flatten(1)


def is_told_from(gram: Tensor, concept: Tensor, empty: Tensor) -> bool:
    """Whether the outputs of a concept's tokens [m, d] differ from the empty prompt's: ‖c − c∅‖_G ≥ `LEAST_DIFFERENCE` ‖c∅‖_G."""
    root = metric_root(gram)
    rows, other = (to_float64(one, gram.device) @ root for one in (concept, empty))
    return bool(torch.linalg.vector_norm(rows - other) >= LEAST_DIFFERENCE * torch.linalg.vector_norm(other))


def likest(likeness: Tensor, most: int, above: float, below: float = float("inf")) -> list[int]:
    """The places of at most `most` words whose likeness (or share) is at least `above` and less than `below`, likest first."""
    chosen = ((likeness >= above) & (likeness < below)).nonzero().flatten()
    order = likeness[chosen].argsort(descending=True, stable=True)[:most]
    return [int(place) for place in chosen[order]]


def best_target(standing: Standing, allowed: Tensor, least: float) -> int | None:
    """The place of the likest word that may be a target; None where none comes near.

    Args:
        standing: of the words.
        allowed: [n] which words may be: common ones, with at most `TARGET_SHARE` and `TARGET_LIKENESS`.
        least: its likeness, at least.
    """
    return next(iter(likest(standing.likeness.where(allowed, float("-inf")), 1, least)), None)


def _mean(tokens: Tensor, device: torch.device) -> Tensor:
    """[m, d]."""
    parts = [to_float64(part, device).sum(dim=0) for part in torch.split(tokens, _AT_ONCE)]
    return torch.stack(parts).sum(dim=0) / len(tokens)
