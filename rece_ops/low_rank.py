"""Changes of a weight as two thin factors, W' = W + up @ down: of an erasure, or of any other change."""

from __future__ import annotations

import torch
from torch import Tensor

from .eraser import Eraser
from .linear.gram import check_projection
from .linear.solves import float64_device, to_float64
from .weight_change import LowRank

# Directions this far below the largest change nothing that float32 weights can hold.
_NEGLIGIBLE = torch.finfo(torch.float32).eps / 8


def lora_factors(weight: Tensor, eraser: Eraser, max_rank: int | None = None) -> tuple[Tensor, Tensor]:
    """`up` [out, r] and `down` [r, d] with up @ down = W·(T − I), balanced, of the least rank r.

    With `max_rank` they are the best approximation of that rank (Eckart–Young), which other weights
    do not influence. The factors are float32, on the CPU.

    Args:
        weight: W [out, d] without the erasure.
        eraser: T.
        max_rank: None or 0 keeps every direction: exact to float32 rounding.

    Raises:
        InputError: W is not finite or does not read dimension d.
    """
    check_projection("weight", weight, eraser.dimension)
    device = float64_device(weight.device)
    left, right = eraser.to(device, torch.float64).factors()
    up_basis, up_rest = torch.linalg.qr(weight.to(device, torch.float64) @ left)
    if right is None:
        core, down_basis = up_rest, None
    else:
        down_basis, down_rest = torch.linalg.qr(right.T)
        core = up_rest @ down_rest.T
    u, sigma, vh = torch.linalg.svd(core, full_matrices=False)
    rank = int((sigma > _NEGLIGIBLE * sigma[:1]).sum())
    rank = max(1, min(rank, max_rank) if max_rank else rank)
    root = sigma[:rank].sqrt()
    down = vh[:rank] if down_basis is None else vh[:rank] @ down_basis.T
    up = up_basis @ (u[:, :rank] * root)
    return up.to("cpu", torch.float32), (down * root[:, None]).to("cpu", torch.float32)


def nearest_of_rank(change: Tensor, max_rank: int) -> LowRank:
    """The factors of the matrix of rank `max_rank` that is nearest to `change` (Eckart–Young), balanced, float32 on the CPU.

    From the eigenvectors of the smaller of C·Cᵀ and Cᵀ·C, in float64.

    Args:
        change: C [rows, columns], finite.
        max_rank: 0 keeps every direction; those that float32 cannot hold are left out in any case.
    """
    matrix = to_float64(change, float64_device(change.device))
    flat = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    energies, vectors = torch.linalg.eigh(flat @ flat.T)
    rank = int((energies > _NEGLIGIBLE**2 * energies[-1]).sum())
    rank = max(1, min(rank, max_rank) if max_rank else rank)
    root = energies[-rank:].flip(0).clamp(min=torch.finfo(torch.float64).tiny) ** 0.25
    basis = vectors[:, -rank:].flip(1)
    left, right = basis * root, (basis.T @ flat) / root[:, None]
    up, down = (left, right) if flat is matrix else (right.T, left.T)
    return LowRank(up.to("cpu", torch.float32).contiguous(), down.to("cpu", torch.float32).contiguous())
