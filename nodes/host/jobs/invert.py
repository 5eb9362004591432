"""White-box concept inversion: token embeddings learned by gradient so that an erased MODEL denoises given images.

The published attacks (arXiv:2308.01508) learn a word of the text encoder; here the token embeddings that the MODEL reads
are learned themselves, which no text encoder limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from ....rece_ops import InputError
from ....rece_ops.texts import quoted
from ..errors import UnsupportedModelError
from ..progress import JobProgress
from ..protocols import Model
from ..session import Session
from ..text.conditioning import Conditioning, NewTokens, with_tokens

SMALLEST_SIDE, MULTIPLE = 32, 8
# Gradients of half-precision activations would vanish; Adam does not see a constant factor.
LOSS_SCALE = 1024.0
_REPORTED = 20
# What torch's generators take.
_SEEDS = (-(2**63), 2**64 - 1)


@dataclass(frozen=True)
class InversionSettings:
    """How embeddings are learned.

    Attributes:
        tokens: how many of them.
        steps: of Adam.
        learning_rate: relative to the root mean square of the start's token embeddings.
        seed: of noise levels, noise, and the choice of images.
        batch: pictures a step.
        low_memory: keep what the backward pass needs in main memory instead of on the compute device.

    Raises:
        InputError: a value is out of range.
    """

    tokens: int = 4
    steps: int = 300
    learning_rate: float = 0.05
    seed: int = 0
    batch: int = 1
    low_memory: bool = False

    def __post_init__(self) -> None:
        for name in ("tokens", "steps", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: give a whole number of at least 1.")
        if not _SEEDS[0] <= self.seed <= _SEEDS[1]:
            raise InputError(f"seed is {self.seed}: give a whole number from {_SEEDS[0]} to {_SEEDS[1]}.")
        if not 0 < self.learning_rate <= 10:
            raise InputError(f"learning_rate is {self.learning_rate}: give a number above 0, at most 10.")


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
        UnsupportedModelError: the MODEL is no Stable Diffusion 1, 2 or XL.
        WrongConnectionError: the VAE is None.
    """
    architecture = session.architecture
    if not architecture.family.unet:
        raise UnsupportedModelError(
            f"This MODEL is {architecture.name}, for which this attack is not made: connect a Stable Diffusion 1, 2 or XL "
            "model."
        )
    latents = session.vae.encode(_checked(images)[..., :3])
    conditioning = session.encoder.conditioning(start)
    (encoded,) = session.encoder.encode(start).streams["text"]
    tokens = encoded.tokens
    if settings.tokens >= tokens.shape[0]:
        raise InputError(
            f"tokens is {settings.tokens}, but the prompt {quoted(start)} has {tokens.shape[0]}, of which the first stays: "
            f"give at most {tokens.shape[0] - 1}."
        )
    with torch.inference_mode(False), torch.enable_grad():
        learned, losses = _learn(session.model, latents.clone(), tokens.clone().float(), conditioning[0][1], settings)
    change = NewTokens(encoded.source.slot, encoded.places, learned)
    return Inverted(with_tokens(conditioning, [change]), tuple(losses))


def _learn(
    model: Model, latents: Tensor, start: Tensor, values: dict[str, Any], settings: InversionSettings
) -> tuple[Tensor, list[float]]:
    """The token embeddings [n, d] with the learned ones in place of tokens 1 to `settings.tokens`, and the losses."""
    device = model.load_device
    shape = (2 * settings.batch, *latents.shape[1:])
    comfy.model_management.load_models_gpu([model], memory_required=8 * model.memory_required(shape))
    denoiser = Denoiser(model, latents, values, device)
    generator = torch.Generator().manual_seed(settings.seed)
    fixed = start.to(device)
    learned = nn.Parameter(fixed[1 : 1 + settings.tokens].clone())
    rate = settings.learning_rate * float(fixed.square().mean().sqrt())
    optimizer = torch.optim.Adam([learned], lr=rate)
    progress, losses = JobProgress(learn=1).part("learn"), []
    for step in range(settings.steps):
        context = torch.cat([fixed[:1], learned, fixed[1 + settings.tokens :]])
        with torch.autograd.graph.save_on_cpu() if settings.low_memory else nullcontext():
            loss = denoiser.loss(context, settings.batch, generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss * LOSS_SCALE)
        optimizer.step()
        losses.append(float(loss.detach()))
        progress(step + 1, settings.steps, "learning")
    whole = torch.cat([fixed[:1], learned.detach(), fixed[1 + settings.tokens :]])
    return whole.to(start.device), losses


class Denoiser:
    """MODEL's loss on images at random noise levels, differentiable in the token embeddings.

    Args:
        model: a ModelPatcher that is loaded.
        latents: of the images.
        values: what else the conditioning holds (pooled output, …).
        device: of the computation.
    """

    def __init__(self, model: Model, latents: Tensor, values: dict[str, Any], device: torch.device) -> None:
        self._base = model.model
        self._options = model.model_options.get("transformer_options", {})
        self._device = device
        self._latents = self._base.process_latent_in(latents).to(device, torch.float32)
        self._other_conditions = self._conditions(values)

    def loss(self, context: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Mean squared error of the noise that MODEL predicts with `context` [n, d], on `batch` noised images."""
        sampling = self._base.model_sampling
        chosen = torch.randint(len(self._latents), (batch,), generator=generator)
        clean = self._latents[chosen.to(self._device)]
        levels = torch.randint(len(sampling.sigmas), (batch,), generator=generator)
        sigma = sampling.sigmas.to(self._device, torch.float32).clone()[levels.to(self._device)]
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        spread = sigma.view(-1, *[1] * (clean.ndim - 1))
        noisy = sampling.noise_scaling(spread, noise, clean)
        with _normal_weights(self._base):
            denoised = self._base.apply_model(
                noisy,
                sigma,
                c_crossattn=context[None].expand(batch, -1, -1),
                transformer_options=self._options.copy(),
                **self._others(batch),
            )
        # x₀' − x₀ = σ(ε − ε'): the error of the noise.
        return ((denoised.float() - clean) / spread).square().mean()

    def _others(self, batch: int) -> dict[str, Any]:
        return {
            name: value.process_cond(batch_size=batch, device=self._device, area=None).cond
            for name, value in self._other_conditions.items()
        }

    def _conditions(self, values: dict[str, Any]) -> dict[str, Any]:
        """What MODEL reads in addition to the text (size and pooled embedding of SDXL, masked picture of inpainting, …)."""
        height, width = (8 * side for side in self._latents.shape[-2:])
        found = self._base.extra_conds(
            **values,
            device=self._device,
            noise=self._latents[:1],
            latent_image=self._latents[:1],
            denoise_mask=None,
            width=width,
            height=height,
            prompt_type="positive",
            seed=0,
        )
        return {name: value for name, value in found.items() if name != "c_crossattn"}


@contextmanager
def _normal_weights(base: nn.Module) -> Iterator[None]:
    """Weights that were loaded in inference mode or would be trained, seen as constants on the same memory.

    Autograd refuses to keep inference tensors for the backward pass, although only the text embeddings are learned.
    """
    swapped = []
    try:
        for module in base.modules():
            tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for table in tables:
                for name, tensor in table.items():
                    if tensor is not None and (tensor.is_inference() or tensor.requires_grad):
                        swapped.append((table, name, tensor))
                        table[name] = _alias(tensor)
        yield
    finally:
        for table, name, tensor in swapped:
            table[name] = tensor


def _alias(tensor: Tensor) -> Any:
    alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def _checked(images: Tensor | None) -> Tensor:
    if images is None or images.shape[0] == 0:
        raise InputError(
            "There are no images: connect some that show the concept, made before the erasure for example."
        )
    height, width = images.shape[1:3]
    if min(height, width) < SMALLEST_SIDE or height % MULTIPLE or width % MULTIPLE:
        raise InputError(
            f"The images are {width}×{height} pixels: give sides of at least {SMALLEST_SIDE} that are multiples of "
            f"{MULTIPLE}, best the size that the model was trained on."
        )
    return images


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
