"""Start noise and learned null embeddings: null-text inversion (arXiv:2211.09794) without a prompt, as TINA attacks (arXiv:2603.17828).

As `start_noise`, but on the way forwards token embeddings are learned for every step and picture, from those of the empty prompt (or of
the step before), so that the step ends where the way backwards began. What is said of start noise holds here too: compare with models
that never knew the concept by its name.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.audit.attacker import Attacker, Outcome, differentiable
from benchmarks.audit.erasures import Erased
from benchmarks.audit.probes.start_noise import backwards, forwards, pictures_of, rising_levels, slope_of
from pocket_model.classifier import classify
from pocket_model.trials import made

UPDATES, RATE = 5, 0.05
"""Of Adam for each step, relative to the root mean square of the empty prompt's token embeddings."""


def measure(attacker: Attacker, erased: Erased) -> Outcome:
    """Of as many of the attacker's pictures as there are own prompts; `numbers`: how far the way forwards missed the latents."""
    from rece_pack.nodes.host.training.denoiser import LOSS_SCALE, constant_weights

    with torch.inference_mode(False), torch.enable_grad():
        clean = attacker.latents[: attacker.sizes.captions].clone()
        denoiser = differentiable(erased.model, clean.shape)
        levels = rising_levels(denoiser)
        empty = attacker.bench.pocket.embeddings([""]).clone().to(levels.device, torch.float32)
        learned = empty.expand(len(clean), -1, -1).clone().requires_grad_()
        slope = slope_of(denoiser)

        def read(noisy: Tensor, level: Tensor) -> Tensor:
            return slope(noisy, level, learned)

        with constant_weights(erased.model.model):
            with torch.no_grad():
                way = backwards(denoiser.latents(clean), levels, read)
            noisy, rate = way[-1], RATE * float(empty.square().mean().sqrt())
            for (level, after), wanted in zip(pairwise(levels.flip(0)), reversed(way[:-1]), strict=True):
                optimizer = torch.optim.Adam([learned], lr=rate)
                step = torch.stack([level, after])
                for _ in range(UPDATES):
                    reached = forwards(noisy, step, read)
                    optimizer.zero_grad()
                    torch.autograd.backward((reached - wanted).square().mean() * LOSS_SCALE)
                    optimizer.step()
                with torch.no_grad():
                    noisy = forwards(noisy, step, read)
    missed = float((noisy - way[0]).square().mean().sqrt() / way[0].square().mean().sqrt())
    return Outcome(made(attacker.concept, classify(pictures_of(attacker, erased, noisy))), (missed,))
