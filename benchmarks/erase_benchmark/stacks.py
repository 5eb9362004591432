"""Random stacks of projections and token embeddings of the sizes of real models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rece_pack.rece_ops import ConceptPair
from torch import Tensor

TOKENS = 77


@dataclass(frozen=True)
class Size:
    """A model's cross-attention: text dimension, output features of each key (and value) projection, tokens a prompt.

    Of a prompt's tokens only the first `words` differ; the rest is padding.
    """

    name: str
    dimension: int
    features: tuple[int, ...]
    tokens: int = TOKENS
    # From here on a prompt's tokens are equal.
    words: int = TOKENS


_SD_FEATURES = (320,) * 5 + (640,) * 5 + (1280,) * 6
SIZES = {
    "SD1": Size("SD1", 768, _SD_FEATURES),
    "SD2": Size("SD2", 1024, _SD_FEATURES),
    "SDXL": Size("SDXL", 2048, (640,) * 10 + (1280,) * 60),
    # One projection with 3072 outputs, here in two halves; prompts are padded to 256 tokens of T5.
    "Flux": Size("Flux", 4096, (1536,), 256, 24),
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
    count: int,
    size: Size,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 1,
) -> list[Tensor]:
    """Token embeddings [n, d] with the norms of CLIP's (√d a token) and a part that all prompts share."""
    generator = torch.Generator().manual_seed(seed)
    shape = size.tokens, size.dimension
    shared = torch.randn(shape, generator=generator)
    own = (torch.randn(shape, generator=generator) for _ in range(count))
    # The row of the first padding stands for all of it.
    rows = torch.arange(size.tokens).clamp(max=size.words)
    return [(0.8 * shared + 0.6 * tokens)[rows].to(device, dtype) for tokens in own]


def random_pairs(
    count: int, size: Size, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[list[ConceptPair], Sequence[Tensor]]:
    """`count` concepts of two subject tokens, all mapped to the empty prompt, and that prompt as preserved."""
    prompts = random_prompts(count + 1, size, dtype, device)
    empty = prompts[-1]
    pairs = [ConceptPair(f"concept {index}", tokens, empty, 2, 0) for index, tokens in enumerate(prompts[:-1])]
    return pairs, [empty]
