"""How many float64 operations a stretch of code spends in matrix work: what a consumer's GPU does at a sixty-fourth of its rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class Float64Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A `with` block that counts multiplications and additions in float64 (`operations`): products, factorings, solves."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run `func`, and add what it costs."""
        count = _COSTS.get(func.overloadpacket)
        tensors = [value for value in args if isinstance(value, Tensor)]
        if count is not None and tensors[-1].dtype == torch.float64:
            self.operations += count(*(tensor.shape for tensor in tensors))
        return func(*args, **(kwargs or {}))


def _product(*shapes: torch.Size) -> float:
    left, right = shapes[-2:]
    return 2.0 * left.numel() * right[-1]


def _solve(*shapes: torch.Size) -> float:
    """Two tensors, the triangular factor [n, n] and n rows: one triangular solve."""
    square, rows = sorted(shapes[:2], key=lambda shape: shape[0] != shape[1])
    return float(square[0] * rows.numel())


def _double_solve(*shapes: torch.Size) -> float:
    rows, square = shapes[:2]
    return 2.0 * square[0] * rows.numel()


_COSTS: Mapping[Any, Callable[..., float]] = {
    aten.mm: _product,
    aten.addmm: _product,
    aten.addmm_: _product,
    aten.linalg_cholesky_ex: lambda shape: shape[0] ** 3 / 3,
    aten.linalg_solve_triangular: _solve,
    aten.cholesky_solve: _double_solve,
    aten.cholesky_inverse: lambda shape: 2 * shape[0] ** 3 / 3,
    aten.linalg_qr: lambda shape: 4.0 * shape[0] * shape[1] ** 2,
    aten.linalg_eigh: lambda shape: 9.0 * shape[0] ** 3,
    aten.linalg_svd: lambda shape: 20.0 * shape[0] ** 3,
}
