"""The training of the UNet: captions in, the noise in latents out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pocket_model import networks
from pocket_model.album import Corpus
from pocket_model.precision import autocast
from pocket_model.recipe import Recipe
from pocket_model.text_network import TextNetwork, token_ids
from pocket_model.training import Loss, Training

NOISE_LEVELS = 1000
ENCODED_AT_ONCE = {"cuda": 512, "cpu": 24}

Encode = Callable[[Sequence[str]], Tensor]
"""Token embeddings [n, 77, 768] of texts."""


def train_unet(recipe: Recipe, run: Path, corpus: Corpus, latents: Tensor, encode: Encode) -> dict[str, Tensor]:
    """A UNet that predicts the noise in latents [n, 4, 8, 8] of the corpus' pictures, given a caption."""
    network = networks.unet(latents.device)
    networks.initialise_unet(network, recipe.seed)
    return _train(recipe, run / "unet.safetensors", network, corpus, latents, encode)


def fine_tune_unet(
    recipe: Recipe,
    run: Path,
    corpus: Corpus,
    latents: Tensor,
    encode: Encode,
    weights: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The UNet with those `weights`, trained further on the corpus."""
    network = networks.unet(latents.device)
    network.load_state_dict(weights, strict=False)
    return _train(recipe, run / "fine_tuned_unet.safetensors", network, corpus, latents, encode)


def encoder(network: TextNetwork, device: torch.device) -> Encode:
    """Encodes texts with a trained text encoder, in bfloat16 at the end."""
    network = network.to(device)

    def encode(texts: Sequence[str]) -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            parts = torch.split(token_ids(texts), ENCODED_AT_ONCE[device.type])
            return torch.cat([network(part.to(device)).bfloat16() for part in parts])

    return encode


def _train(
    recipe: Recipe, state: Path, network: Any, corpus: Corpus, latents: Tensor, encode: Encode
) -> dict[str, Tensor]:
    print(f"{state.stem}: encoding {len(corpus.texts)} captions", flush=True)
    embeddings = encode(["", *corpus.texts])
    network.load_state_dict(networks.frozen_weights(recipe.seed), strict=False)
    for part, parameter in network.named_parameters():
        parameter.requires_grad_(not networks.is_frozen(part))
    network.to(memory_format=torch.channels_last)
    training = Training(network, recipe.unet, state, recipe.seed, recipe.weight_decay)
    return training.run(_denoising_loss(recipe, network, corpus, latents, embeddings))


def _denoising_loss(recipe: Recipe, network: Any, corpus: Corpus, latents: Tensor, embeddings: Tensor) -> Loss:
    """Mean squared error of the predicted noise at a random level of SD's schedule.

    `embeddings` [1 + texts, 77, 768] begin with those of the empty caption.
    """
    device, batch = latents.device, recipe.unet.batch
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NOISE_LEVELS, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(dim=0).float().to(device)
    predict = torch.compile(network, dynamic=False) if device.type == "cuda" else network

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(corpus), (batch,), generator=generator, device=device)
        clean = latents[corpus.pictures(chosen, generator)].float()
        told, within = torch.rand((2, batch), generator=generator, device=device)
        text = torch.where(told < recipe.unconditional, 0, corpus.text[chosen] + 1)
        # One level from each of as many equal parts, so that every batch sees all of the schedule.
        levels = ((torch.arange(batch, device=device) + within) * (NOISE_LEVELS / batch)).long()
        noise = torch.randn(clean.shape, generator=generator, device=device)
        share = kept[levels][:, None, None, None]
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        with autocast(device):
            context = embeddings[text].float()
            predicted = predict(noisy, levels, context=context)
        return functional.mse_loss(predicted.float(), noise)

    return loss
