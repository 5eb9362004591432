"""Random stacks of projections and token embeddings of the sizes of real models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rece_ops import ConceptPair

TOKENS = 77


@dataclass(frozen=True)
class Size:
    """A model's cross-attention: text dimension, and output features of each key (and value) projection."""

    name: str
    dimension: int
    features: tuple[int, ...]


_SD_FEATURES = (320,) * 5 + (640,) * 5 + (1280,) * 6
SIZES = {
    "SD1": Size("SD1", 768, _SD_FEATURES),
    "SD2": Size("SD2", 1024, _SD_FEATURES),
    "SDXL": Size("SDXL", 2048, (640,) * 10 + (1280,) * 60),
}


def random_projections(
    size: Size, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", seed: int = 0
) -> dict[str, Tensor]:
    """Key and value weights [out, d] by name, entries of variance 1/d."""
    generator = torch.Generator().manual_seed(seed)
    stack = {}
    for layer, features in enumerate(size.features):
        for kind in ("to_k", "to_v"):
            weight = torch.randn(features, size.dimension, generator=generator) * size.dimension**-0.5
            stack[f"layer{layer}.{kind}"] = weight.to(device, dtype)
    return stack


def random_prompts(
    count: int, dimension: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", seed: int = 1
) -> list[Tensor]:
    """Token embeddings [77, d] with the norms of CLIP's (√d a token) and a part that all prompts share."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(TOKENS, dimension, generator=generator)
    own = (torch.randn(TOKENS, dimension, generator=generator) for _ in range(count))
    return [(0.8 * shared + 0.6 * tokens).to(device, dtype) for tokens in own]


def random_pairs(
    count: int, dimension: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[list[ConceptPair], Sequence[Tensor]]:
    """`count` concepts of two subject tokens, all mapped to the empty prompt, and that prompt as preserved."""
    prompts = random_prompts(count + 1, dimension, dtype, device)
    empty = prompts[-1]
    pairs = [ConceptPair(f"concept {index}", tokens, empty, 2, 0) for index, tokens in enumerate(prompts[:-1])]
    return pairs, [empty]
