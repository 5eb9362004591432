"""Pictures that a MODEL makes of prompts to be trained on, kept as latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.sample
import torch
from torch import Tensor

from ...request.training_request import PictureSettings
from ..progress import PictureProgress
from ..session import Session
from ..text.conditioning import Conditioning

_AT_ONCE = 16
_SAMPLER, _SCHEDULER = "euler_ancestral", "normal"
_PIXELS = 8


def make_pictures(
    session: Session,
    prompts: Sequence[str],
    settings: PictureSettings,
    seed: int,
    progress: PictureProgress,
    first_steps: int | None = None,
    begins: Callable[[int], None] = lambda step: None,
) -> Tensor:
    """Latents [n, …] of one picture a prompt, as the host's KSampler makes them.

    The prompts fill one window of the text encoder each.

    Args:
        session: with MODEL and CLIP.
        prompts: one a picture.
        settings: of the pictures.
        seed: of the first; as many prompts at the same seed get the same noise.
        progress: told of every step.
        first_steps: stop after so many; the pictures are noisy then.
        begins: told the number of a step, from 0, before the MODEL predicts anything in it.

    Raises:
        comfy.model_management.InterruptProcessingException: the person pressed Cancel.
    """
    conditionings = [session.encoder.conditioning(prompt) for prompt in prompts]
    return make_pictures_of(session, conditionings, settings, seed, progress, first_steps, begins)


def make_pictures_of(
    session: Session,
    conditionings: Sequence[Conditioning],
    settings: PictureSettings,
    seed: int,
    progress: PictureProgress,
    first_steps: int | None = None,
    begins: Callable[[int], None] = lambda step: None,
) -> Tensor:
    """The same of one picture for each CONDITIONING of one prompt, all of one size; see `make_pictures`."""
    found = []
    # A picture of 512×512 pixels takes 64 times the memory of one of 64×64.
    at_once = max(1, min(_AT_ONCE, _AT_ONCE * 512 * 512 // (settings.size * settings.size)))
    for start in range(0, len(conditionings), at_once):
        part = conditionings[start : start + at_once]

        def after_step(
            step: int, denoised: Tensor, noisy: Tensor, total: int, begun: int = start, size: int = len(part)
        ) -> None:
            begins(step + 1)
            progress(begun * total + size * (step + 1), len(conditionings) * total, "making pictures")

        begins(0)
        found.append(_sampled(session, part, settings, seed + start, after_step, first_steps))
    return torch.cat(found)


def _sampled(
    session: Session,
    conditionings: Sequence[Conditioning],
    settings: PictureSettings,
    seed: int,
    callback: Any,
    last_step: int | None,
) -> Tensor:
    model: Any = session.model
    side = settings.size // _PIXELS
    latent = torch.zeros([len(conditionings), model.get_model_object("latent_format").latent_channels, side, side])
    samples: Tensor = comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(latent, seed),
        settings.steps,
        settings.guidance,
        _SAMPLER,
        _SCHEDULER,
        _joined(conditionings),
        session.encoder.conditioning(""),
        latent,
        last_step=last_step,
        callback=callback,
        disable_pbar=True,
        seed=seed,
    )
    return samples.cpu()


def _joined(conditionings: Sequence[Conditioning]) -> Conditioning:
    """Several prompts as one batch."""
    entries = [conditioning[0] for conditioning in conditionings]
    embeddings = torch.cat([embedding for embedding, _ in entries])
    values = dict(entries[0][1])
    for name, value in values.items():
        if isinstance(value, Tensor) and value.ndim > 1:
            values[name] = torch.cat([other[name] for _, other in entries])
    return [[embeddings, values]]
