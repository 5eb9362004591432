"""The host's compute device."""

from __future__ import annotations

import comfy.model_management
import torch


def compute_device(dimension: int) -> torch.device:
    """ComfyUI's compute device, with room made for an erasure of text dimension `dimension`."""
    device = comfy.model_management.get_torch_device()
    # Measured peak: twelve d×d float64 matrices and one weight (see benchmarks).
    comfy.model_management.free_memory(14 * dimension * dimension * 8, device)
    return device
