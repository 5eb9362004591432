"""The trained tensors in few bytes: matrices as whole multiples of a step per row, deflated.

A row of standard deviation σ is rounded to multiples of σ/13, which costs 1/(13·√12) = 2.2 % of it and leaves less
than six bits a weight for zlib to keep. Reading is exact: one product of two float32 a weight.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

WEIGHTS = Path(__file__).with_name("weights.safetensors")
TEXT_WEIGHTS = Path(__file__).with_name("text_encoder.safetensors")
UNET, VAE, TEXT, IMAGE = "unet/", "vae/", "text/", "image/"
STEPS_PER_SIGMA = {UNET: 13.0, VAE: 32.0, TEXT: 32.0, IMAGE: 32.0}
LARGEST = 127


def write_compact(
    path: Path, networks: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the trained tensors of networks (`UNET`, `VAE`, `TEXT`, `IMAGE`) to one safetensors file, in one step."""
    tensors: dict[str, Tensor] = {}
    for prefix, weights in networks.items():
        for name, weight in weights.items():
            values = weight.detach().float().cpu()
            if values.ndim < 2:
                tensors[prefix + name] = values
                continue
            numbers, steps = _rounded(values.flatten(1), STEPS_PER_SIGMA[prefix])
            tensors[f"{prefix}{name}/step"] = steps
            tensors[f"{prefix}{name}/deflated"] = _deflated(numbers)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished, dict(metadata or {}))
    unfinished.replace(path)


def read_compact(path: Path, prefix: str, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors of one network, float32, in the shapes that it has."""
    found = {}
    with safe_open(path, framework="pt") as file:
        for name, shape in shapes.items():
            if len(shape) < 2:
                found[name] = file.get_tensor(prefix + name).clone()
                continue
            steps = file.get_tensor(f"{prefix}{name}/step")
            numbers = _inflated(file.get_tensor(f"{prefix}{name}/deflated"), shape.numel())
            found[name] = (numbers.view(shape[0], -1).float() * steps[:, None]).view(shape)
    return found


def read_metadata(path: Path) -> dict[str, str]:
    """What a file says of itself."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _rounded(rows: Tensor, steps_per_sigma: float) -> tuple[Tensor, Tensor]:
    sigma = rows.square().mean(dim=1).sqrt()
    steps = torch.maximum(sigma / steps_per_sigma, rows.abs().amax(dim=1) / LARGEST)
    steps = torch.where(steps > 0, steps, 1.0)
    return (rows / steps[:, None]).round().to(torch.int8), steps


def _deflated(numbers: Tensor) -> Tensor:
    packed = zlib.compress(numbers.numpy().tobytes(), level=9)
    return torch.frombuffer(bytearray(packed), dtype=torch.uint8)


def _inflated(deflated: Tensor, count: int) -> Tensor:
    # One byte more than there should be is enough to know that there are too many.
    raw = zlib.decompressobj().decompress(deflated.numpy().tobytes(), max_length=count + 1)
    if len(raw) != count:
        raise ValueError(f"A tensor of the pocket model holds {len(raw)} weights or more, not {count}.")
    return torch.from_numpy(np.frombuffer(raw, dtype=np.int8).copy())
