"""One number for an erasure of objects: how much is gone, under other names too, and how much of the rest is there."""

from __future__ import annotations

from ..errors import InputError


def overall_harmonic_mean(own: float, synonyms: float, others: float) -> float:
    """H_o of MACE (Lu et al., CVPR 2024): the harmonic mean of efficacy, generality and specificity.

    H_o = 3 / (1 / (1 − own) + 1 / (1 − synonyms) + 1 / others)

    Args:
        own: share of pictures of the concept's own prompts that still show it, 0 … 1.
        synonyms: the same of prompts that say it with other words.
        others: share of pictures of other prompts that show what they say.

    Returns:
        0 … 1; 0 where any of the three is nothing.

    Raises:
        InputError: a share lies outside 0 … 1.
    """
    if not all(0 <= share <= 1 for share in (own, synonyms, others)):
        raise InputError(f"H_o needs shares from 0 to 1, and got {own}, {synonyms} and {others}.")
    parts = (1 - own, 1 - synonyms, others)
    return 0.0 if min(parts) == 0 else 3 / sum(1 / part for part in parts)
