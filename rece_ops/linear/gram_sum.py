"""Σ w·XᵀX at the rate of float32: products in blocks of rows, blocks added in float64, the error measured alongside."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .solves import mirror_upper

# Rows to a block: enough to keep the device busy, few enough that a sum in float32 stays short.
_BLOCK_ROWS = (1024, 2048)
# Columns to a panel: wide enough to keep the device busy, narrow enough to skip most of the lower triangle.
_PANEL = {"cpu": 192}
_WIDE_PANEL = 1024
# Products of numbers beyond these sizes could leave float32's range; such blocks are scaled by a power of two.
_SAFE_EXPONENT = 30
# Every block in this many is checked against float64, by this many random vectors.
_CHECKED = 16
_PROBES = 4
# How far the spectral norm may lie above that of a random symmetric matrix of the same Frobenius norm, 2·‖E‖_F/√d: on
# stacks with flat and with steep spectra it lay above by 1.0 to 2.
_STRUCTURE = 4.0


class GramSum:
    """Σ w·XᵀX over matrices X [n, d], as a float64 matrix [d, d] on one device.

    Products of rows in float64 are computed in float64; those of all other dtypes in float32, in blocks of one to two
    thousand rows, of which the sums are added in float64. Only panels right of the diagonal are computed, since the sum is
    symmetric. The sum and a block are all the memory that is used.

    Args:
        dimension: d.
        device: where the sum is; it must have float64.
        exact: compute every product in float64, whatever the dtype of the rows.
    """

    def __init__(self, dimension: int, device: torch.device, exact: bool = False) -> None:
        self._upper = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
        self._exact = exact
        self._block: Tensor | None = None
        self._product: Tensor | None = None
        self._filled, self._weight = 0, 1.0
        self._check = _ErrorCheck(dimension, device)

    def add(self, rows: Tensor, weight: float = 1.0) -> None:
        """Add weight·rowsᵀ·rows of `rows` [n, d], of any dtype and on any device."""
        dtype = torch.float64 if self._exact or rows.dtype == torch.float64 else torch.float32
        if self._block is None or self._block.dtype != dtype:
            self._flush()
            self._block = self._empty_block(dtype)
        if weight != self._weight:
            self._flush()
            self._weight = weight
        limit = self._block.shape[0]
        for part in torch.split(rows, limit):
            taken = min(part.shape[0], limit - self._filled)
            for piece in (part[:taken], part[taken:]):
                # Moved first and cast then: the other device may have no float64.
                self._block[self._filled : self._filled + piece.shape[0]].copy_(piece.to(self._block.device))
                self._filled += piece.shape[0]
                if self._filled == limit:
                    self._flush()

    def total(self) -> Tensor:
        """The sum [d, d]; nothing may be added afterwards."""
        self._flush()
        self._block = self._product = None
        return mirror_upper(self._upper)

    @property
    def error(self) -> float:
        """About how far `total` is from the sum in float64, in the spectral norm; rather above than below."""
        return self._check.estimate()

    def _empty_block(self, dtype: torch.dtype) -> Tensor:
        dimension = self._upper.shape[0]
        rows = dimension if dtype == torch.float64 else min(max(dimension, _BLOCK_ROWS[0]), _BLOCK_ROWS[1])
        return torch.empty(rows, dimension, dtype=dtype, device=self._upper.device)

    def _flush(self) -> None:
        if self._block is None or not self._filled:
            return
        rows, self._filled = self._block[: self._filled], 0
        if rows.dtype == torch.float64:
            for start, panel in self._panels(rows):
                self._upper[start : start + panel.shape[1], start:].addmm_(panel.T, rows[:, start:], alpha=self._weight)
            return
        size, scale = _scaled_into_range(rows)
        weight = self._weight * scale
        self._check.begin(rows, size, weight)
        for start, panel in self._panels(rows):
            width, rest = panel.shape[1], rows.shape[1] - start
            product = self._buffer(width * rest).view(width, rest)
            torch.mm(panel.T, rows[:, start:], out=product)
            self._check.panel(start, product)
            self._upper[start : start + width, start:].add_(product, alpha=weight)

    def _panels(self, rows: Tensor) -> list[tuple[int, Tensor]]:
        width = _PANEL.get(rows.device.type, _WIDE_PANEL)
        return [(start, rows[:, start : start + width]) for start in range(0, rows.shape[1], width)]

    def _buffer(self, size: int) -> Tensor:
        if self._product is None:
            self._product = torch.empty(size, dtype=torch.float32, device=self._upper.device)
        return self._product[:size]


class _ErrorCheck:
    """Measures the error of some blocks' products, E = P − XᵀX, by E·x for random signs x: the mean of ‖E x‖² is ‖E‖²_F."""

    def __init__(self, dimension: int, device: torch.device) -> None:
        signs = torch.randint(0, 2, (dimension, _PROBES), generator=torch.Generator().manual_seed(0)) * 2 - 1
        self._signs = signs.to(device, torch.float64)
        self._blocks = 0
        self._rows: Tensor | None = None
        self._weight = 1.0
        self._error = torch.zeros((), dtype=torch.float64, device=device)
        # Σ (w·‖X‖²_F)² over the checked blocks, and over all.
        self._checked, self._all = self._error.clone(), self._error.clone()

    def begin(self, rows: Tensor, norm: float, weight: float) -> None:
        """A block X [n, d] of that norm and weight comes next."""
        size = (norm**2 * weight) ** 2
        self._all += size
        self._rows, self._weight = None, weight
        if self._blocks % _CHECKED == 0:
            self._rows = rows.double()
            self._checked += size
        self._blocks += 1

    def panel(self, start: int, product: Tensor) -> None:
        """The panel [width, d − start] of the block's product, right of the diagonal."""
        if self._rows is None:
            return
        signs = self._signs[start:]
        exact = self._rows[:, start : start + product.shape[0]].T @ (self._rows[:, start:] @ signs)
        difference = product.double() @ signs - exact
        self._error += (difference * self._weight).square().sum() / _PROBES

    def estimate(self) -> float:
        """The spectral norm of the error of the whole sum, errors of blocks being independent."""
        if not self._blocks:
            return 0.0
        # Twice for the panels below the diagonal.
        frobenius = math.sqrt(2 * float(self._error) * float(self._all / self._checked.clamp(min=_TINY)))
        return _STRUCTURE * min(2 * frobenius / math.sqrt(len(self._signs)), frobenius)


_TINY = torch.finfo(torch.float64).tiny


def _scaled_into_range(rows: Tensor) -> tuple[float, float]:
    """Scale `rows` in place by a power of two if their products could leave float32's range.

    Returns:
        ‖X‖_F of what they are then, and what undoes it in XᵀX.
    """
    norm, scale = float(torch.linalg.vector_norm(rows)), 1.0
    # The norm says it of nearly all blocks, and no entry is larger.
    if not 2.0**-_SAFE_EXPONENT <= norm <= 2.0**_SAFE_EXPONENT:
        largest = float(torch.stack(torch.aminmax(rows)).abs().max())
        exponent = math.frexp(largest)[1] if math.isfinite(largest) else 0
        # In two steps, since 2^±149 itself leaves float32's range.
        half = exponent // 2
        rows.mul_(2.0**-half).mul_(2.0 ** -(exponent - half))
        norm, scale = float(torch.linalg.vector_norm(rows)), 4.0**exponent
    return norm, scale
