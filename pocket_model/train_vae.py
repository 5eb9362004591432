"""The trainings of the VAE: both halves together, then the decoder alone on the latents that the UNet learns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocket_model import networks
from pocket_model.album import Album
from pocket_model.precision import autocast
from pocket_model.recipe import Recipe
from pocket_model.training import Training

VISIBLE = 0.02
ENCODED_AT_ONCE = 256


def train_vae(recipe: Recipe, run: Path, device: torch.device, album: Album) -> dict[str, Tensor]:
    """A TAESD pair that gives the album's pictures back, with latents of mean 0 and variance 1."""
    print("VAE", flush=True)
    network = _vae(device)
    networks.initialise_vae(network, recipe.seed)
    training = Training(network, recipe.vae, run / "vae.safetensors", recipe.seed, recipe.weight_decay)

    def loss(generator: torch.Generator) -> Tensor:
        numbers = album.draw(recipe.vae.batch, recipe.everyday, generator)
        pictures, counts = _counted(recipe, album, numbers)
        with autocast(device):
            latents = network.taesd_encoder(pictures).float()
        spread, mean = torch.var_mean(latents, dim=(0, 2, 3))
        moments = (spread - 1).square().mean() + mean.square().mean()
        decoded = _decoded(network, latents, recipe.latent_noise, generator)
        return _missed(decoded, pictures, counts) + recipe.moment_weight * moments

    return training.run(loss)


def train_decoder(
    recipe: Recipe, run: Path, device: torch.device, vae: Mapping[str, Tensor], album: Album, latents: Tensor
) -> dict[str, Tensor]:
    """The pair with a decoder that goes on learning, from the latents that the encoder ended with.

    The encoder stays as it is, so this may follow the UNet's training or go before it.
    """
    print("decoder", flush=True)
    network = _loaded(vae, device)
    network.taesd_encoder.requires_grad_(False)
    training = Training(network, recipe.decoder, run / "decoder.safetensors", recipe.seed, recipe.weight_decay)

    def loss(generator: torch.Generator) -> Tensor:
        numbers = album.draw(recipe.decoder.batch, recipe.everyday, generator).clamp(max=len(latents) - 1)
        pictures, counts = _counted(recipe, album, numbers)
        decoded = _decoded(network, latents[numbers].float(), recipe.latent_noise, generator)
        return _missed(decoded, pictures, counts)

    return {**vae, **training.run(loss)}


@torch.inference_mode()
def album_latents(device: torch.device, vae: Mapping[str, Tensor], album: Album, count: int) -> Tensor:
    """The latents [count, 4, 8, 8] of the first pictures."""
    print(f"encoding {count} pictures", flush=True)
    network = _loaded(vae, device)
    return torch.cat(
        [
            network.taesd_encoder(album.show(numbers).contiguous(memory_format=torch.channels_last))
            for numbers in torch.split(torch.arange(count, device=device), ENCODED_AT_ONCE)
        ]
    )


@torch.inference_mode()
def decode(device: torch.device, vae: Mapping[str, Tensor], latents: Tensor) -> Tensor:
    """Pictures [n, 3, 64, 64] in 0 … 1 of latents."""
    network = _loaded(vae, device)
    decoded = [
        network.taesd_decoder(part.to(device)).clamp(0, 1).cpu() for part in torch.split(latents, ENCODED_AT_ONCE)
    ]
    return torch.cat(decoded)


def _vae(device: torch.device) -> Any:
    network = networks.vae(device)
    network.vae_scale.requires_grad_(False)
    network.vae_shift.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def _loaded(vae: Mapping[str, Tensor], device: torch.device) -> Any:
    network = _vae(device)
    network.load_state_dict(vae, strict=False)
    return network


def _counted(recipe: Recipe, album: Album, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures [n, 3, 64, 64], and how much each of their pixels counts [n, 1, 64, 64].

    What tells a style or the weather from none is a small part of a picture, and would be learned last.
    """
    pictures, clear = album.show(numbers), album.show(album.clear[numbers])
    plain = album.show(album.plain[album.clear[numbers]])
    counts = (
        1
        + (recipe.object_weight - 1) * _differs(plain, plain[:, :, :1, :1])
        + recipe.style_weight * _differs(clear, plain)
        + recipe.weather_weight * _differs(pictures, clear)
    )
    return pictures.contiguous(memory_format=torch.channels_last), counts


def _decoded(network: Any, latents: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Pictures [n, 3, 64, 64] of latents with a little noise, as the UNet's are never exact."""
    noisy = latents + noise * torch.randn(latents.shape, generator=generator, device=latents.device)
    with autocast(latents.device):
        decoded: Tensor = network.taesd_decoder(noisy).float()
    return decoded


def _missed(decoded: Tensor, pictures: Tensor, counts: Tensor) -> Tensor:
    """What is missed, each pixel as often as it counts.

    The square keeps patterns that are not yet learned from being taken for their median, a plain surface.
    """
    missed = decoded - pictures
    return ((missed.abs() + 2 * missed.square()) * counts).mean() / counts.mean()


def _differs(pictures: Tensor, others: Tensor) -> Tensor:
    """1 where a pixel differs visibly: [n, 1, 64, 64]."""
    return ((pictures - others).abs().amax(dim=1, keepdim=True) > VISIBLE).float()
