"""White-box concept inversion: token embeddings learned by gradient so that an erased MODEL denoises given images.

The published attacks (arXiv:2308.01508) learn a word of the text encoder; here the token embeddings that the MODEL reads
are learned themselves, which no text encoder limits.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from ....rece_ops import InputError
from ....rece_ops.attacks.inversion import InversionSettings
from ....rece_ops.texts import quoted
from ..errors import UnsupportedModelError
from ..patching.schedules import check_unscheduled
from ..progress import JobProgress, PictureProgress
from ..protocols import Model
from ..session import Session
from ..text.conditioning import Conditioning, NewTokens, with_tokens
from ..training.denoiser import LOSS_SCALE, Denoiser, constant_weights
from ..training.images import checked_images

_REPORTED = 20


@dataclass(frozen=True)
class Inverted:
    """What an inversion found.

    Attributes:
        conditioning: the start's, with the learned embeddings in place of its first tokens.
        losses: mean squared error of the predicted noise, one a step.
    """

    conditioning: Conditioning
    losses: tuple[float, ...]

    @property
    def first_loss(self) -> float:
        """Mean of the first steps' losses."""
        return _mean(self.losses[:_REPORTED])

    @property
    def last_loss(self) -> float:
        """Mean of the last steps' losses."""
        return _mean(self.losses[-_REPORTED:])


def invert_concept(session: Session, images: Tensor | None, start: str, settings: InversionSettings) -> Inverted:
    """Learn token embeddings with which MODEL denoises `images` [n, height, width, 3].

    MODEL, CLIP and VAE are not changed; the patches in MODEL's chain count.

    Raises:
        InputError: there are no images or their size is wrong, or there are more tokens than the prompt has.
        UnsupportedModelError: the MODEL is no Stable Diffusion 1, 2 or XL, or erased from only in part of the steps.
        WrongConnectionError: the VAE is None.
    """
    architecture = session.architecture
    if not architecture.family.unet:
        raise UnsupportedModelError(
            f"This MODEL is {architecture.name}, for which this attack is not made: connect a Stable Diffusion 1, 2 or XL "
            "model."
        )
    check_unscheduled(session.model, "this attack")
    latents = session.vae.encode(checked_images(images)[..., :3])
    return invert_latents(session, latents, start, settings, JobProgress(learn=1).part("learn"))


def invert_latents(
    session: Session, latents: Tensor, start: str, settings: InversionSettings, progress: PictureProgress
) -> Inverted:
    """The same of pictures [n, …] as the VAE or a sampler gives them; see `invert_concept`.

    Raises:
        InputError: there are more tokens than the prompt has.
    """
    conditioning = session.encoder.conditioning(start)
    (encoded,) = session.encoder.encode(start).streams["text"]
    tokens = encoded.tokens
    if settings.tokens >= tokens.shape[0]:
        raise InputError(
            f"tokens is {settings.tokens}, but the prompt {quoted(start)} has {tokens.shape[0]}, of which the first stays: "
            f"give at most {tokens.shape[0] - 1}."
        )
    with torch.inference_mode(False), torch.enable_grad():
        learned, losses = _learn(
            session.model, latents.clone(), tokens.clone().float(), conditioning[0][1], settings, progress
        )
    change = NewTokens(encoded.source.slot, encoded.places, learned)
    return Inverted(with_tokens(conditioning, [change]), tuple(losses))


def _learn(
    model: Model,
    latents: Tensor,
    start: Tensor,
    values: dict[str, Any],
    settings: InversionSettings,
    progress: PictureProgress,
) -> tuple[Tensor, list[float]]:
    """The token embeddings [n, d] with the learned ones in place of tokens 1 to `settings.tokens`, and the losses."""
    device = model.load_device
    shape = (2 * settings.batch, *latents.shape[1:])
    comfy.model_management.load_models_gpu([model], memory_required=8 * model.memory_required(shape))
    images = _ImageLoss(model, latents, values, device)
    generator = torch.Generator().manual_seed(settings.seed)
    fixed = start.to(device)
    learned = nn.Parameter(fixed[1 : 1 + settings.tokens].clone())
    rate = settings.learning_rate * float(fixed.square().mean().sqrt())
    optimizer = torch.optim.Adam([learned], lr=rate)
    losses: list[float] = []
    for step in range(settings.steps):
        context = torch.cat([fixed[:1], learned, fixed[1 + settings.tokens :]])
        with torch.autograd.graph.save_on_cpu() if settings.low_memory else nullcontext():
            loss = images.of(context, settings.batch, generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss * LOSS_SCALE)
        optimizer.step()
        losses.append(float(loss.detach()))
        progress(step + 1, settings.steps, "learning")
    whole = torch.cat([fixed[:1], learned.detach(), fixed[1 + settings.tokens :]])
    return whole.to(start.device), losses


class _ImageLoss:
    """MODEL's loss on images at random noise levels, differentiable in the token embeddings.

    Args:
        model: a ModelPatcher that is loaded.
        latents: of the images.
        values: what else the conditioning holds (pooled output, …).
        device: of the computation.
    """

    def __init__(self, model: Model, latents: Tensor, values: dict[str, Any], device: torch.device) -> None:
        self._base = model.model
        self._denoiser = Denoiser(model, latents.shape, device)
        self._latents = self._denoiser.latents(latents)
        self._conditions = self._denoiser.conditions(values)

    def of(self, context: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Mean squared error of the noise that MODEL predicts with `context` [n, d], on `batch` noised images."""
        chosen = torch.randint(len(self._latents), (batch,), generator=generator)
        noised = self._denoiser.noised(self._latents[chosen.to(self._latents.device)], generator)
        conditions = {name: value.expand(batch, *value.shape[1:]) for name, value in self._conditions.items()}
        with constant_weights(self._base):
            denoised = self._denoiser.denoised(noised, context[None].expand(batch, -1, -1), conditions)
        return (noised.predicted_noise(denoised) - noised.noise).square().mean()


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
