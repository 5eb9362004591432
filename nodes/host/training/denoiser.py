"""A loaded UNet as a function that autograd can go through: noised latents and token embeddings in, denoised latents out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..protocols import Model

Patches = Mapping[str, Callable[..., Any]]
"""Patches of the host, by the name under which it keeps them in a MODEL's options."""
NO_PATCHES: Patches = MappingProxyType({})

# Gradients of half-precision activations would vanish; Adam does not see a constant factor.
LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Noised:
    """Latents with noise.

    Attributes:
        clean: [n, …], as the UNet knows them.
        noise: of the same shape.
        levels: σ [n].
        noisy: what the UNet gets.
    """

    clean: Tensor
    noise: Tensor
    levels: Tensor
    noisy: Tensor

    def __getitem__(self, rows: Any) -> Noised:
        return Noised(self.clean[rows], self.noise[rows], self.levels[rows], self.noisy[rows])

    @classmethod
    def joined(cls, parts: Sequence[Noised]) -> Noised:
        """All of them, one after the other."""
        return cls(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("clean", "noise", "levels", "noisy"))
        )

    def predicted_noise(self, denoised: Tensor) -> Tensor:
        """The noise that a prediction of the clean latents means: ε' = ε + (x₀ − x₀')/σ."""
        return self.noise + (self.clean - denoised.float()) / self.levels.view(-1, *[1] * (self.clean.ndim - 1))


class Denoiser:
    """MODEL's prediction, differentiable in the token embeddings and in what `TrainedLayers` adds.

    Args:
        model: a ModelPatcher that is loaded.
        shape: of one batch of latents, of which only height and width count.
        device: of the computation.

    Attributes:
        device: as given.
    """

    def __init__(self, model: Model, shape: Sequence[int], device: torch.device) -> None:
        self._base = model.model
        self._options = model.model_options.get("transformer_options", {})
        self._shape, self.device = shape, device

    def latents(self, samples: Tensor) -> Tensor:
        """Latents of the VAE or a sampler as the UNet knows them, in float32 on the device."""
        found: Tensor = self._base.process_latent_in(samples).to(self.device, torch.float32)
        return found

    def conditions(self, values: Mapping[str, Any]) -> dict[str, Tensor]:
        """What MODEL reads of one prompt in addition to the text: size and pooled embedding of SDXL, masked picture of inpainting.

        Args:
            values: what CONDITIONING holds beside the token embeddings.
        """
        height, width = (8 * side for side in self._shape[-2:])
        blank = torch.zeros((1, *self._shape[1:]), device=self.device)
        found = self._base.extra_conds(
            **values,
            device=self.device,
            noise=blank,
            latent_image=blank,
            denoise_mask=None,
            width=width,
            height=height,
            prompt_type="positive",
            seed=0,
        )
        return {
            name: value.process_cond(batch_size=1, device=self.device, area=None).cond
            for name, value in found.items()
            if name != "c_crossattn"
        }

    def noised(self, clean: Tensor, generator: torch.Generator) -> Noised:
        """Latents at random noise levels, drawn on the CPU."""
        sampling = self._base.model_sampling
        levels = torch.randint(len(sampling.sigmas), (len(clean),), generator=generator)
        sigma = self.levels[levels.to(self.device)]
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        noisy = sampling.noise_scaling(sigma.view(-1, *[1] * (clean.ndim - 1)), noise, clean)
        return Noised(clean, noise, sigma, noisy)

    @property
    def levels(self) -> Tensor:
        """Every σ that the UNet was trained with, rising, in float32 on the device."""
        found: Tensor = self._base.model_sampling.sigmas.to(self.device, torch.float32).clone()
        return found

    def begun(self, noise: Tensor, level: Tensor) -> Tensor:
        """Where a sampling begins at that σ, from noise of variance 1."""
        found: Tensor = self._base.model_sampling.noise_scaling(level, noise, torch.zeros_like(noise), True)
        return found

    def denoised(
        self, noised: Noised, contexts: Tensor, conditions: Mapping[str, Tensor], patches: Patches = NO_PATCHES
    ) -> Tensor:
        """What MODEL takes for the clean latents, with `contexts` [n, tokens, d] and `conditions` of n rows each.

        Within `constant_weights`; `patches` see `denoised_at`.
        """
        return self.denoised_at(noised.noisy, noised.levels, contexts, conditions, patches)

    def denoised_at(
        self,
        noisy: Tensor,
        levels: Tensor,
        contexts: Tensor,
        conditions: Mapping[str, Tensor],
        patches: Patches = NO_PATCHES,
    ) -> Tensor:
        """The same of noisy latents at σ [n]; the `patches` of blocks come behind those that MODEL has."""
        options = self._options.copy()
        if patches:
            before = options.get("patches", {})
            added = {name: [*before.get(name, ()), patch] for name, patch in patches.items()}
            options["patches"] = {**before, **added}
        found: Tensor = self._base.apply_model(
            noisy, levels, c_crossattn=contexts, transformer_options=options, **conditions
        )
        return found


@contextmanager
def constant_weights(base: nn.Module) -> Iterator[None]:
    """Weights that were loaded in inference mode or would be trained, seen as constants on the same memory.

    Autograd refuses to keep inference tensors for the backward pass, although they are not what is learned.
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
