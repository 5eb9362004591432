"""An erasure as a LoRA: W' = W + up @ down for one weight."""

from __future__ import annotations

import torch
from torch import Tensor

from .eraser import Eraser
from .linear.gram import check_projection
from .linear.solves import float64_device

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
