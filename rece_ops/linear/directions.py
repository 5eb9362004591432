"""The main directions in which concepts differ from other words, in the metric of the model's outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import InputError
from ..pairs import Contrast
from ..texts import quoted
from .gram import GramTooRough, check_reads
from .gram_sum import GramSum
from .solves import add_to_diagonal, cholesky, to_float64

# The metric of few or narrow weights is singular; this part of its mean eigenvalue is added, which no output shows.
METRIC_FLOOR = 1e-9
# Shares of energy (squares of lengths) below this are rounding.
NEGLIGIBLE = 1e-13
# How far the error of G may take ‖c − o‖²_G, by which concepts are weighted, as a share of it at most.
_LENGTH_ERROR = 1e-5


def concept_spectrum(differences: Differences) -> Tensor:
    """Share of all differences that each of their main directions Δ holds, largest first."""
    return differences.main_directions(metric_root(differences.gram))[1]


def metric_root(gram: Tensor) -> Tensor:
    """L [d, d], lower triangular, with LLᵀ = G (and a floor under its eigenvalues).

    Raises:
        NumericalError: G is not positive definite, as its error in float32 can make it.
    """
    return cholesky(
        add_to_diagonal(gram.clone(), _floor(gram)),
        "The metric of the model's outputs",
        "The checkpoint or a LoRA on it is damaged: load another.",
    )


def _floor(gram: Tensor) -> float:
    return METRIC_FLOOR * float(gram.diagonal().mean())


class Differences:
    """What sets concepts apart, gathered one contrast after the other.

    With concepts c, other words o, replacements r and weights w, everything that a projection reads is
    S = Σ w² (c − o)(c − o)ᵀ and X = Σ w² (c − o)(r − o)ᵀ. Few tokens are kept as they are. More tokens than dimensions are
    folded into these sums, so that the memory does not grow with the number of concepts; once they were asked for, no more
    can be added. Every concept counts by its scale, however far it is from the others: w = √scale / ‖c − o‖_G.

    Args:
        gram: G [d, d] of the key and value weights, float64.
        names: contrasts of these names are kept, to measure by.
        gram_error: about how far G is from the exact sum, in the spectral norm.
    """

    def __init__(self, gram: Tensor, names: Iterable[str] = (), gram_error: float = 0.0) -> None:
        self.gram, self.gram_error = gram, gram_error
        self.kept: dict[str, Contrast] = {}
        self._names = frozenset(names)
        self._rows: list[tuple[Tensor, Tensor | None]] = []
        self._count = 0
        self._sum: GramSum | None = None
        self._moment: Tensor | None = None
        self._cross: Tensor | None = None

    def add(self, contrast: Contrast) -> None:
        """Gather one more concept.

        Raises:
            InputError: it has another dimension than the weights, or is the same as what it is compared with.
            GramTooRough: the error of G takes its length too far.
        """
        check_reads(self.gram, contrast.dimension)
        if contrast.name in self._names:
            self.kept[contrast.name] = contrast
        rows, weight = self._weighted(contrast.concept, contrast.others, contrast)
        replaced = None
        if contrast.replacement is not None:
            replaced = self._difference(contrast.replacement, contrast.others)[: len(rows)] * weight
        self._rows.append((rows, replaced))
        self._count += len(rows)
        if self._sum is not None or self._count > len(self.gram):
            self._fold()

    def main_directions(self, root: Tensor) -> tuple[Tensor, Tensor]:
        """Orthonormal V [d, m] of the differences Lᵀ(c − o), and the share of their energy that each holds, largest first.

        Args:
            root: L [d, d].
        """
        if self._sum is None:
            _, singular, vh = torch.linalg.svd(torch.cat([rows for rows, _ in self._rows]) @ root, full_matrices=False)
            energy, vectors = singular.square(), vh.T
        else:
            values, vectors = torch.linalg.eigh(root.T @ self._total() @ root)
            energy, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        return vectors, energy / energy.sum()

    def coordinates(self, root: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of what `mixed` [d, k] reads of all differences: the second moment [k, k], and X [k, d]; None without targets.

        Both are in the metric's coordinates, of which `root` is L.
        """
        reads = root @ mixed
        if self._sum is not None:
            cross = None if self._cross is None else reads.T @ self._cross @ root
            return reads.T @ self._total() @ reads, cross
        read = [(rows @ reads, replaced) for rows, replaced in self._rows]
        moments = torch.stack([rows.T @ rows for rows, _ in read]).sum(0)
        crossed = [rows[: len(replaced)].T @ (replaced @ root) for rows, replaced in read if replaced is not None]
        return moments, torch.stack(crossed).sum(0) if crossed else None

    def _weighted(self, concept: Tensor, others: Tensor, contrast: Contrast) -> tuple[Tensor, float]:
        """The rows c − o [n, d] times their weight, and that weight."""
        rows = self._difference(concept, others)
        square = float(rows.square().sum())
        energy = float(((rows @ self.gram) * rows).sum()) + _floor(self.gram) * square
        if self.gram_error * square > _LENGTH_ERROR * abs(energy):
            raise GramTooRough
        if not energy > 0:
            raise InputError(f"Concept {quoted(contrast.name)} and its target are the same: give another target.")
        weight = math.sqrt(contrast.scale / energy)
        return rows * weight, weight

    def _difference(self, one: Tensor, other: Tensor) -> Tensor:
        count = min(len(one), len(other))
        return to_float64(one[:count], self.gram.device) - to_float64(other[:count], self.gram.device)

    def _fold(self) -> None:
        if self._sum is None:
            self._sum = GramSum(len(self.gram), self.gram.device)
        for rows, replaced in self._rows:
            self._sum.add(rows)
            if replaced is not None:
                if self._cross is None:
                    self._cross = torch.zeros_like(self.gram)
                self._cross.addmm_(rows[: len(replaced)].T, replaced)
        self._rows.clear()

    def _total(self) -> Tensor:
        if self._moment is None:
            assert self._sum is not None  # asked for only where tokens were folded
            self._moment = self._sum.total()
        return self._moment
