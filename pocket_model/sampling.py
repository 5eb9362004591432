"""Pictures of many prompts at once, through ComfyUI's own sampling in this process.

ComfyUI must be importable (`make_importable`). A MODEL, CLIP and VAE here are what CheckpointLoaderSimple gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocket_model.networks import LATENT_CHANNELS, LATENT_SIDE, encode


@dataclass(frozen=True)
class Sampler:
    """How pictures are sampled.

    Attributes:
        steps: of the sampler.
        guidance: classifier-free guidance.
        name, scheduler: as KSampler calls them.
        batch: pictures at once.
    """

    steps: int = 20
    guidance: float = 2.0
    name: str = "euler_ancestral"
    scheduler: str = "normal"
    batch: int = 32


@dataclass(frozen=True)
class Begun:
    """Pictures that are gone on with instead of begun.

    Attributes:
        latents: [n, c, h, w] of them, as the VAE gives them.
        start_step: of the sampler, at whose noise they are taken up.
        mask: [h, w], 1 where they are made anew and 0 where they stay; None makes all anew.
    """

    latents: Tensor
    start_step: int
    mask: Tensor | None = None


class PocketModel:
    """The loaded checkpoint, and the token embeddings of the prompts that were asked for.

    Args:
        checkpoint: the assembled file.
        dtype: that the UNet computes in; None leaves the choice to ComfyUI.
    """

    def __init__(self, checkpoint: Path, dtype: torch.dtype | None = None) -> None:
        import comfy.sd

        self.model, self.clip, self.vae, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint))
        if dtype is not None:
            self.model.set_model_compute_dtype(dtype)
        self._known: dict[str, Tensor] = {}

    def embeddings(self, prompts: Sequence[str]) -> Tensor:
        """[n, 77, 768] of prompts, each encoded once."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        for start in range(0, len(new), 24):
            part = new[start : start + 24]
            self._known.update(zip(part, encode(self.clip, part), strict=True))
        return torch.stack([self._known[prompt] for prompt in prompts])

    def sample(
        self, model: Any, positive: Tensor, seeds: Sequence[int], sampler: Sampler, begun: Begun | None = None
    ) -> Tensor:
        """Pictures [n, 3, 64, 64] in 0 … 1: one for each embedding [77, 768] of `positive` and its seed.

        The noise that an ancestral sampler adds on the way is drawn for a whole batch, from its first seed.
        """
        parts = []
        for start in range(0, len(seeds), sampler.batch):
            part = slice(start, start + sampler.batch)
            held = None if begun is None else replace(begun, latents=begun.latents[part])
            parts.append(self._latents(model, positive[part], seeds[part], sampler, held))
        with torch.inference_mode():
            pictures = [self.vae.decode(latents) for latents in parts]
        return torch.cat(pictures).movedim(-1, 1).float().clamp(0, 1)

    def latents(self, positive: Tensor, seeds: Sequence[int], sampler: Sampler) -> Tensor:
        """What the unedited network draws [n, c, h, w], as it reads it itself; see `sample`, of one batch."""
        drawn: Tensor = self.model.model.process_latent_in(self._latents(self.model, positive, seeds, sampler))
        return drawn

    def _latents(
        self, model: Any, positive: Tensor, seeds: Sequence[int], sampler: Sampler, begun: Begun | None = None
    ) -> Tensor:
        import comfy.sample

        noise = torch.stack([_noise(seed) for seed in seeds])
        with torch.inference_mode():
            latents: Tensor = comfy.sample.sample(
                model,
                noise,
                sampler.steps,
                sampler.guidance,
                sampler.name,
                sampler.scheduler,
                [[positive, {}]],
                [[self.embeddings([""]).expand(len(positive), -1, -1), {}]],
                torch.zeros_like(noise) if begun is None else begun.latents,
                start_step=None if begun is None else begun.start_step,
                noise_mask=None if begun is None or begun.mask is None else begun.mask[None, None],
                disable_pbar=True,
                seed=seeds[0],
            )
        return latents


def _noise(seed: int) -> Tensor:
    """As KSampler draws it for one picture."""
    shape = (LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))[0]
