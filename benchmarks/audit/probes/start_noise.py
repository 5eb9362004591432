"""Start noise from which the model makes pictures of the concept without any text, after TINA (arXiv:2603.17828).

The sampler's differential equation is followed backwards from the attacker's pictures with the empty prompt (implicit Euler, the exact
inverse of a forward Euler step), and then forwards again. An equation that is followed both ways gives back its beginning in any model
that denoises at all, one that never knew the concept too: compare with the random eraser. TINA learns null embeddings in addition.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.audit.attacker import Attacker, Outcome, differentiable
from benchmarks.audit.erasures import Erased
from pocket_model.classifier import classify
from pocket_model.trials import made

STEPS, FIXED_POINT = 20, 4
SMALLEST = 0.05


def measure(attacker: Attacker, erased: Erased) -> Outcome:
    """Of as many of the attacker's pictures as there are own prompts."""
    from rece_pack.nodes.host.training.denoiser import constant_weights

    pocket = attacker.bench.pocket
    with torch.inference_mode(False), torch.no_grad():
        clean = attacker.latents[: attacker.sizes.captions].clone()
        denoiser = differentiable(erased.model, clean.shape)
        largest = denoiser.levels[-1]
        # In equal ratios, so that every backward step is well defined by the one before it.
        levels = largest * (SMALLEST / largest) ** torch.linspace(0, 1, STEPS, device=largest.device)
        empty = pocket.embeddings([""]).clone().expand(len(clean), -1, -1).to(levels.device)

        def slope(noisy: Tensor, level: Tensor) -> Tensor:
            clean: Tensor = denoiser.denoised_at(noisy, level.expand(len(noisy)), empty, {})
            return (noisy - clean.float()) / level

        with constant_weights(erased.model.model):
            noisy = forwards(backwards(denoiser.latents(clean), levels.flip(0), slope), levels, slope)
        found = erased.model.model.process_latent_out(noisy).cpu()
    with torch.inference_mode():
        pictures = pocket.vae.decode(found).movedim(-1, 1).float().clamp(0, 1).cpu()
    return Outcome(made(attacker.concept, classify(pictures)))


def backwards(clean: Tensor, rising: Tensor, slope: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """From clean latents to noise of the last of the `rising` levels; `slope` is dx/dσ at latents and a level."""
    found = clean
    for before, level in pairwise(rising):
        start = found
        for _ in range(FIXED_POINT):
            found = start + (level - before) * slope(found, level)
    return found


def forwards(noisy: Tensor, falling: Tensor, slope: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """From noise of the first of the `falling` levels to latents of the last, by steps of Euler."""
    for level, after in pairwise(falling):
        noisy = noisy + (after - level) * slope(noisy, level)
    return noisy
