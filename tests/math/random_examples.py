"""Small random stacks, concepts and prompts for the tests."""

from __future__ import annotations

import torch
from rece_pack.rece_ops import ConceptPair
from torch import Tensor


def stack(dimension: int, layers: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Projections [out, dimension] with different numbers of output features."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"layer{i}": (torch.randn(dimension + 3 * i, dimension, generator=generator, dtype=torch.float64)).to(dtype)
        * dimension**-0.5
        for i in range(layers)
    }


def prompts(count: int, tokens: int, dimension: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Token embeddings [tokens, dimension] that share a common part, as CLIP's do."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(tokens, dimension, generator=generator, dtype=torch.float64)
    return [
        (0.7 * shared + torch.randn(tokens, dimension, generator=generator, dtype=torch.float64)).to(dtype)
        for _ in range(count)
    ]


def pairs(
    count: int,
    tokens: int,
    dimension: int,
    seed: int = 1,
    dtype: torch.dtype = torch.float64,
    targets: int = 1,
    scale: float = 1.0,
) -> list[ConceptPair]:
    """`count` concepts mapped in turn to `targets` different targets, with differing last subject tokens."""
    texts = prompts(count + targets, tokens, dimension, seed, dtype)
    return [
        ConceptPair(
            f"concept {i}",
            texts[i],
            texts[count + i % targets],
            concept_start=i % min(3, tokens),
            target_start=(i // 2) % min(2, tokens),
            scale=scale,
        )
        for i in range(count)
    ]


def relative_change_error(ours: Tensor, reference: Tensor, original: Tensor) -> float:
    """‖W_ours − W_ref‖ / ‖W_ref − W_original‖."""
    return float((ours - reference).norm() / (reference - original).norm())
