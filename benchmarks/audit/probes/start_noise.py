"""Start noise from which the model makes pictures of the concept without any text, after TINA (arXiv:2603.17828).

The sampler's differential equation is followed backwards from the attacker's pictures with the empty prompt (implicit Euler, the exact
inverse of a forward Euler step), and then forwards again. An equation that is followed both ways gives back its beginning in any model
that denoises at all, one that never knew the concept too: compare with the random eraser. TINA learns null embeddings in addition: `null_text`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from benchmarks.audit.attacker import Attacker, Outcome, differentiable
from benchmarks.audit.erasures import Erased
from pocket_model.classifier import classify
from pocket_model.trials import made

STEPS, FIXED_POINT = 20, 4
SMALLEST = 0.05

Slope = Callable[[Tensor, Tensor], Tensor]
"""dx/dσ at latents and a level."""


def measure(attacker: Attacker, erased: Erased) -> Outcome:
    """Of as many of the attacker's pictures as there are own prompts."""
    from rece_pack.nodes.host.training.denoiser import constant_weights

    with torch.inference_mode(False), torch.no_grad():
        clean = attacker.latents[: attacker.sizes.captions].clone()
        denoiser = differentiable(erased.model, clean.shape)
        levels = rising_levels(denoiser)
        empty = attacker.bench.pocket.embeddings([""]).clone().expand(len(clean), -1, -1).to(levels.device)
        slope = slope_of(denoiser)

        def without_text(noisy: Tensor, level: Tensor) -> Tensor:
            return slope(noisy, level, empty)

        with constant_weights(erased.model.model):
            noise = backwards(denoiser.latents(clean), levels, without_text)[-1]
            found = forwards(noise, levels.flip(0), without_text)
    return Outcome(made(attacker.concept, classify(pictures_of(attacker, erased, found))))


def rising_levels(denoiser: Any) -> Tensor:
    """In equal ratios, so that every backward step is well defined by the one before it."""
    largest: Tensor = denoiser.levels[-1]
    return (largest * (SMALLEST / largest) ** torch.linspace(0, 1, STEPS, device=largest.device)).flip(0)


def slope_of(denoiser: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """dx/dσ at latents, a level and token embeddings."""

    def slope(noisy: Tensor, level: Tensor, contexts: Tensor) -> Tensor:
        clean: Tensor = denoiser.denoised_at(noisy, level.expand(len(noisy)), contexts, {})
        return (noisy - clean.float()) / level

    return slope


def pictures_of(attacker: Attacker, erased: Erased, latents: Tensor) -> Tensor:
    """Of latents as the UNet knows them, [n, 3, 64, 64]."""
    with torch.inference_mode():
        found = erased.model.model.process_latent_out(latents.detach()).cpu()
        pictures: Tensor = attacker.bench.pocket.vae.decode(found).movedim(-1, 1).float().clamp(0, 1).cpu()
    return pictures


def backwards(clean: Tensor, rising: Tensor, slope: Slope) -> list[Tensor]:
    """From clean latents to noise of the last of the `rising` levels: the latents at each of them."""
    found = [clean]
    for before, level in pairwise(rising):
        reached = found[-1]
        for _ in range(FIXED_POINT):
            reached = found[-1] + (level - before) * slope(reached, level)
        found.append(reached)
    return found


def forwards(noisy: Tensor, falling: Tensor, slope: Slope) -> Tensor:
    """From noise of the first of the `falling` levels to latents of the last, by steps of Euler."""
    for level, after in pairwise(falling):
        noisy = noisy + (after - level) * slope(noisy, level)
    return noisy
