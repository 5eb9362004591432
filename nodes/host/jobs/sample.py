"""Pictures of prompts, one at a time, as KSampler and VAEDecode make them."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ...request.prompt_sets import PromptEntry
from ..protocols import Clip, Model, Vae
from ..text.conditioning import Conditioning
from ..text.spans import tokenize

SAMPLERS: tuple[str, ...] = tuple(comfy.samplers.KSampler.SAMPLERS)
SCHEDULERS: tuple[str, ...] = tuple(comfy.samplers.KSampler.SCHEDULERS)


@dataclass(frozen=True)
class Sampling:
    """What all pictures have in common: the sampler's settings and the negative prompt."""

    steps: int = 20
    sampler: str = "euler"
    scheduler: str = "normal"
    negative: str = ""


class Sampler:
    """Samples with one CLIP and VAE; each text is encoded once.

    Args:
        clip: encodes the prompts.
        vae: decodes the pictures.
        sampling: of all pictures.
    """

    def __init__(self, clip: Clip, vae: Vae, sampling: Sampling) -> None:
        self._clip, self._vae, self._sampling = clip, vae, sampling
        self._negative = self._encoded(sampling.negative)

    def picture(self, model: Model, entry: PromptEntry, instead: Conditioning | None = None) -> Tensor:
        """[1, height, width, 3] in 0 … 1 of a prompt with a seed, guidance and size; of a video the first frame.

        Args:
            instead: of the prompt, whose seed, guidance and size count.

        Raises:
            comfy.model_management.InterruptProcessingException: the person pressed Cancel.
        """
        assert entry.seed is not None
        assert entry.width is not None
        assert entry.height is not None
        empty = torch.zeros(1, 4, entry.height // 8, entry.width // 8)
        latent = comfy.sample.fix_empty_latent_channels(model, empty)
        found = comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(latent, entry.seed),
            self._sampling.steps,
            entry.guidance,
            self._sampling.sampler,
            self._sampling.scheduler,
            self._encoded(entry.prompt) if instead is None else instead,
            self._negative,
            latent,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=entry.seed,
        )
        pictures = self._vae.decode(found)
        return pictures.reshape(-1, *pictures.shape[-3:])[:1].cpu().float().clamp(0, 1)

    def _encoded(self, text: str) -> list[list[object]]:
        return self._clip.encode_from_tokens_scheduled(tokenize(self._clip, text))
