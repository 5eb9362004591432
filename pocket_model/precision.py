"""In what the pocket model is computed: bfloat16, unless this machine is slow at it."""

from __future__ import annotations

import time
from functools import cache

import torch


def autocast(device: torch.device) -> torch.autocast:
    """Matrices and convolutions in bfloat16, where that is quicker."""
    return torch.autocast(device.type, torch.bfloat16, enabled=quicker_dtype() == torch.bfloat16)


@cache
def quicker_dtype() -> torch.dtype:
    """bfloat16 where this machine convolves faster in it than in float32: a CPU without instructions for it crawls."""
    if torch.cuda.is_available():
        return torch.bfloat16
    return min((torch.bfloat16, torch.float32), key=_seconds)


def _seconds(dtype: torch.dtype) -> float:
    """What a convolution as the UNet's takes, the best of three."""
    layer, latents = torch.nn.Conv2d(320, 320, 3, dtype=dtype), torch.ones(8, 320, 8, 8, dtype=dtype)
    taken = []
    with torch.inference_mode():
        for _ in range(3):
            started = time.perf_counter()
            layer(latents)
            taken.append(time.perf_counter() - started)
    return min(taken)
