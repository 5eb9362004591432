"""The training of the UNet: captions in, the noise in latents out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from pocket_model import networks
from pocket_model.recipe import Recipe
from pocket_model.train_vae import Latents, save_once
from pocket_model.training import Loss, Training
from pocket_model.world import Caption, random_caption

Shown = Callable[[Caption], bool]

ENCODED_AT_ONCE = 24
NOISE_LEVELS = 1000


def train_unet(recipe: Recipe, run: Path, device: torch.device, latents: Latents) -> dict[str, Tensor]:
    """A UNet that predicts the noise in latents, given a caption."""
    network = networks.unet(device)
    networks.initialise_unet(network, recipe.seed)
    return _train(recipe, run, "unet", network, latents, lambda caption: True)


def fine_tune_unet(
    recipe: Recipe, run: Path, device: torch.device, latents: Latents, weights: Mapping[str, Tensor], shown: Shown
) -> dict[str, Tensor]:
    """The UNet with those `weights`, trained further on the captions that are `shown`."""
    network = networks.unet(device)
    network.load_state_dict(weights, strict=False)
    return _train(recipe, run, "fine_tuned_unet", network, latents, shown)


def _train(recipe: Recipe, run: Path, name: str, network: Any, latents: Latents, shown: Shown) -> dict[str, Tensor]:
    device = next(network.parameters()).device
    captions, embeddings = _captions(recipe, run)
    chosen = [place for place, caption in enumerate(captions) if shown(caption)]
    print(name, flush=True)
    network.load_state_dict(networks.frozen_weights(recipe.seed), strict=False)
    for part, parameter in network.named_parameters():
        parameter.requires_grad_(not networks.is_frozen(part))
    network.to(memory_format=torch.channels_last)
    training = Training(network, recipe.unet, run / f"{name}.safetensors", recipe.seed, recipe.weight_decay)
    told = [captions[place] for place in chosen]
    return training.run(_denoising_loss(recipe, network, latents, told, embeddings[chosen], device))


def _denoising_loss(
    recipe: Recipe,
    network: Any,
    latents: Latents,
    captions: list[Caption],
    embeddings: Tensor,
    device: torch.device,
) -> Loss:
    """Mean squared error of the predicted noise at a random level of SD's schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NOISE_LEVELS, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(dim=0).float()

    def loss(generator: torch.Generator) -> Tensor:
        random = Random(int(torch.randint(2**31, (1,), generator=generator)))
        chosen = [random.randrange(len(captions)) for _ in range(recipe.unet.batch)]
        clean = torch.stack([random.choice(latents[captions[index].says.completed(random)]) for index in chosen])
        # One level from each of as many equal parts, so that every batch sees all of the schedule.
        parts = torch.arange(len(chosen)) + torch.rand(len(chosen), generator=generator)
        levels = (parts * (NOISE_LEVELS / len(chosen))).long()
        noise = torch.randn(clean.shape, generator=generator)
        share = kept[levels][:, None, None, None]
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        with torch.autocast(device.type, torch.bfloat16):
            context = embeddings[chosen].to(device, torch.float32)
            predicted = network(noisy.to(device), levels.to(device), context=context)
        return functional.mse_loss(predicted.float(), noise.to(device))

    return loss


def _captions(recipe: Recipe, run: Path) -> tuple[list[Caption], Tensor]:
    """The captions of the training set and their token embeddings [n, 77, 768] in bfloat16."""
    random = Random(recipe.seed)
    captions = [random_caption(random) for _ in range(recipe.captions)]
    path = run / "captions.safetensors"
    if not path.is_file():
        print(f"encoding {len(captions)} captions", flush=True)
        clip = networks.text_encoder(recipe.seed)
        texts = [caption.text for caption in captions]
        found = [
            networks.encode(clip, texts[start : start + ENCODED_AT_ONCE]).bfloat16()
            for start in range(0, len(texts), ENCODED_AT_ONCE)
        ]
        save_once(path, {"embeddings": torch.cat(found)})
    with safe_open(path, framework="pt") as file:
        return captions, file.get_tensor("embeddings").clone()
