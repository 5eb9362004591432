"""Learned-token inversion from several starts at once: one batch holds them all, so that a graphics card has something to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

RATE = 0.05
"""As the node Invert Concept: relative to the root mean square of the start's token embeddings."""


@dataclass(frozen=True)
class Start:
    """Where an attack begins: token embeddings [n, d] or [n, blocks, d], of which the tokens 1 to `tokens` are learned."""

    embedding: Tensor
    tokens: int


def invert(
    model: Any,
    latents: Tensor,
    starts: Sequence[Start],
    steps: int,
    pictures: int,
    seed: int,
    weighted: bool = False,
) -> list[Tensor]:
    """What each start has become, after `steps` of Adam on the noise that MODEL predicts for pictures of the concept.

    Args:
        model: the erased MODEL.
        latents: of the attacker's pictures.
        starts: where to begin; with an axis of blocks, each of them reads embeddings of its own.
        steps: of Adam.
        pictures: a step, for every start others.
        seed: of noise levels, noise and the choice of pictures.
        weighted: whether errors count by their noise level, as the hardening's own do.
    """
    import comfy.model_management
    from rece_pack.nodes.host.training.block_contexts import BlockContexts, reading_blocks
    from rece_pack.nodes.host.training.denoiser import LOSS_SCALE, NO_PATCHES, Denoiser, constant_weights
    from rece_pack.rece_ops.training.objectives import errors, level_weight

    with torch.inference_mode(False), torch.enable_grad():
        device = model.load_device
        size = (len(starts) * pictures, *latents.shape[1:])
        comfy.model_management.load_models_gpu([model], memory_required=8 * model.memory_required(size))
        denoiser = Denoiser(model, size, device)
        clean = denoiser.latents(latents.clone())
        learned = nn.Parameter(torch.stack([start.embedding for start in starts]).to(device, torch.float32).clone())
        mask = torch.zeros_like(learned)
        for place, start in enumerate(starts):
            mask[place, 1 : 1 + start.tokens] = 1.0
        optimizer = torch.optim.Adam([learned], lr=RATE * float(learned.detach().square().mean().sqrt()))
        generator = torch.Generator().manual_seed(seed)
        blocks = reading_blocks(model) if learned.ndim == 4 else {}
        with constant_weights(model.model):
            for _ in range(steps):
                chosen = torch.randint(len(clean), (len(starts) * pictures,), generator=generator)
                noised = denoiser.noised(clean[chosen.to(device)], generator)
                contexts = learned.repeat_interleave(pictures, dim=0)
                patches = BlockContexts(contexts, blocks).patches() if blocks else NO_PATCHES
                read = contexts[:, :, 0] if blocks else contexts
                denoised = denoiser.denoised(noised, read, {}, patches)
                found = errors(noised.predicted_noise(denoised), noised.noise)
                # Summed over the starts: each has a loss of its own.
                loss = (found * level_weight(noised.levels) if weighted else found).mean() * len(starts)
                optimizer.zero_grad()
                torch.autograd.backward(loss * LOSS_SCALE)
                assert learned.grad is not None
                learned.grad *= mask
                optimizer.step()
        return list(learned.detach().cpu())
