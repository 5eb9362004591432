"""A sampling that stops at some noise level, on the way of autograd's UNet instead of the host's sampler."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .denoiser import Denoiser

Prediction = Callable[[Tensor, Tensor], Tensor]
"""What is taken for the clean latents, of noisy latents [2, …] at σ [2]: with the prompt, and without."""


def sampled_until(
    denoiser: Denoiser, predict: Prediction, noise: Tensor, last: int, steps: int, guidance: float
) -> Tensor:
    """Latents [1, …] of a DDIM sampling (η = 0) at the noise level number `last`, where the deterministic step is Euler's.

    Its steps are those of a whole sampling with `steps`, as far as they are noisier, and one more to that level.

    Args:
        denoiser: knows the levels.
        predict: of the sampling.
        noise: [1, …], of variance 1.
        last: the number of the level, 0 the least noisy.
        steps: of a whole sampling.
        guidance: classifier-free guidance.
    """
    levels = denoiser.levels
    stride = max(1, len(levels) // steps)
    numbers = [number for number in range(1, len(levels), stride) if number > last][::-1]
    sigmas = levels[torch.tensor([*numbers, last], device=levels.device)]
    latents = denoiser.begun(noise, sigmas[0])
    for sigma, following in pairwise(sigmas):
        named, empty = predict(torch.cat([latents, latents]), sigma.expand(2)).float().chunk(2)
        clean = empty + guidance * (named - empty)
        latents = clean + (latents - clean) * (following / sigma)
    return latents
