"""Exact preservation: T p = p (to a thousandth, see `LEFT_OUT`) for the tokens p of chosen prompts, whatever is erased.

After SPEED (arXiv:2503.07392): T − I is confined to the null space of what is preserved. With an orthonormal basis Q of
the preserved tokens and Π = I − QQᵀ, the edit that minimizes Σ η‖W T c − W c*‖² + λ‖W(T − I)‖² among all T with
(T − I) Q = 0 is T − I = M Π with M = (Σ η (c* − c)(Πc)ᵀ)(λI + Σ η Πc (Πc)ᵀ)⁻¹: the same closed form, the concepts'
tokens replaced by what of them lies outside the span. A product of such transforms preserves as each of them does.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import InputError
from ..texts import quoted
from .solves import to_float64

# Directions that hold less than this share of the preserved tokens' energy are left out of the span: the hundreds of
# tokens of a few prompts would otherwise fill the space with differences that no picture shows. All preserved tokens
# together move by a thousandth of their norm at most, times ‖T − I‖.
LEFT_OUT = 1e-6
# A concept of which less than this share lies outside the span cannot be erased any more.
LEAST_OUTSIDE = 1e-4


class PreservedSubspace:
    """The span of all tokens of some prompts.

    Args:
        prompts: token embeddings [n, d] by prompt.
        device: where to compute, in float64.
        root: a matrix [d, d] that maps tokens (rows) to the coordinates in which spans are taken; None leaves them.
    """

    def __init__(self, prompts: Mapping[str, Tensor], device: torch.device, root: Tensor | None = None) -> None:
        self._rows = {name: _moved(to_float64(tokens, device), root) for name, tokens in prompts.items()}
        _, singular, vh = torch.linalg.svd(torch.cat(list(self._rows.values())), full_matrices=False)
        energy = singular.square()
        kept = int((energy.flip(0).cumsum(0) > LEFT_OUT * energy.sum()).sum())
        self.basis: Tensor = vh[:kept].T.contiguous()

    def outside(self, rows: Tensor) -> Tensor:
        """What of each row [n, d] lies outside the span: rows·Π."""
        return rows - (rows @ self.basis) @ self.basis.T

    def confine(self, system: Tensor) -> Tensor:
        """Π·system·Π of a symmetric matrix [d, d]."""
        return self.outside(self.outside(system).T)

    def check_outside(self, name: str, rows: Tensor) -> None:
        """Raise InputError unless enough of `rows` [n, d], which are to be erased, lies outside the span."""
        energy = float(rows.square().sum())
        if float(self.outside(rows).square().sum()) > LEAST_OUTSIDE * energy:
            return
        directions = torch.linalg.svd(rows, full_matrices=False).Vh
        shares = {
            prompt: float((tokens @ directions.T).square().sum() / tokens.square().sum())
            for prompt, tokens in self._rows.items()
        }
        worst = max(shares, key=shares.__getitem__)
        raise InputError(
            f"{name} lies in the span of what is preserved exactly, so one of the two must give way: {shares[worst]:.0%} "
            f"of {quoted(worst or '(empty prompt)')} lies in the directions to erase and would have to go. Preserve fewer "
            "prompts exactly, or preserve them in the ordinary way."
        )


def _moved(tokens: Tensor, root: Tensor | None) -> Tensor:
    return tokens if root is None else tokens @ root
