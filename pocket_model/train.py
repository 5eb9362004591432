"""Trains the pocket model; may be stopped at any time and started again.

    python -m pocket_model.train [--run FOLDER] [--device cpu|cuda]

Runs in the host's interpreter. First the VAE learns the pictures, then the UNet learns to make them from captions.
The folder of the run keeps the state of both (about 500 MB); the end writes `pocket_model/weights.safetensors`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from pocket_model import networks
from pocket_model.compact import WEIGHTS, write_compact
from pocket_model.recipe import RECIPE, Recipe
from pocket_model.rendering import PLACES, render
from pocket_model.training import Loss, Training
from pocket_model.world import BACKGROUNDS, COLOURS, OBJECTS, STYLES, Caption, Scene, random_caption
from tools.host import host_folder, prepare_comfyui
from tools.launch_comfyui import make_importable

ENCODED_AT_ONCE = 24
NOISE_LEVELS = 1000


def main() -> int:
    """Run both stages, or what is left of them."""
    parser = argparse.ArgumentParser(description="Train the pocket model.")
    parser.add_argument("--run", type=Path, default=host_folder() / "training", help="the folder of the run")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the trained weights go")
    arguments = parser.parse_args()
    make_importable(prepare_comfyui())
    device = torch.device(arguments.device)
    started = time.monotonic()
    vae = train_vae(RECIPE, arguments.run, device)
    unet = train_unet(RECIPE, arguments.run, device, vae)
    write_compact(arguments.out, unet, vae)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB, {(time.monotonic() - started) / 60:.0f} min")
    return 0


def train_vae(recipe: Recipe, run: Path, device: torch.device) -> dict[str, Tensor]:
    """A TAESD pair that gives the world's pictures back, with latents of mean 0 and variance 1."""
    print("VAE", flush=True)
    network = networks.vae(device)
    networks.initialise_vae(network, recipe.seed)
    network.vae_scale.requires_grad_(False)
    network.vae_shift.requires_grad_(False)
    training = Training(network, recipe.vae, run / "vae.safetensors", recipe.seed, recipe.weight_decay)

    def loss(generator: torch.Generator) -> Tensor:
        pictures = random_pictures(recipe.vae.batch, generator).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            latents = network.taesd_encoder(pictures).float()
            noise = torch.randn(latents.shape, generator=generator).to(device) * recipe.latent_noise
            decoded = network.taesd_decoder(latents + noise).float()
        spread, mean = torch.var_mean(latents, dim=(0, 2, 3))
        moments = (spread - 1).square().mean() + mean.square().mean()
        counts = 1 + (recipe.object_weight - 1) * _is_object(pictures)
        missed = decoded - pictures
        # The square keeps patterns that are not yet learned from being taken for their median, a plain surface.
        reconstruction: Tensor = ((missed.abs() + 2 * missed.square()) * counts).mean() / counts.mean()
        return reconstruction + recipe.moment_weight * moments

    network.to(memory_format=torch.channels_last)
    return training.run(loss)


def _is_object(pictures: Tensor) -> Tensor:
    """1 where a pixel differs from the picture's first one, which is background: [n, 1, 64, 64]."""
    return ((pictures - pictures[:, :, :1, :1]).abs().amax(dim=1, keepdim=True) > 0.02).float()


def random_pictures(count: int, generator: torch.Generator) -> Tensor:
    """Pictures [n, 3, 64, 64] of scenes drawn evenly."""
    random = Random(int(torch.randint(2**31, (1,), generator=generator)))
    scenes = [
        Scene(*(random.choice(words).name for words in (OBJECTS, COLOURS, STYLES, BACKGROUNDS))) for _ in range(count)
    ]
    return torch.stack([render(scene, random.choice(PLACES)) for scene in scenes])


def train_unet(recipe: Recipe, run: Path, device: torch.device, vae: dict[str, Tensor]) -> dict[str, Tensor]:
    """A UNet that predicts the noise in latents, given a caption."""
    latents = _latents(recipe, run, device, vae)
    captions, embeddings = _captions(recipe, run)
    print("UNet", flush=True)
    network = networks.unet(device)
    networks.initialise_unet(network, recipe.seed)
    network.load_state_dict(networks.frozen_weights(recipe.seed), strict=False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not networks.is_frozen(name))
    network.to(memory_format=torch.channels_last)
    training = Training(network, recipe.unet, run / "unet.safetensors", recipe.seed, recipe.weight_decay)
    return training.run(_denoising_loss(recipe, network, latents, captions, embeddings, device))


def _denoising_loss(
    recipe: Recipe,
    network: Any,
    latents: dict[Scene, Tensor],
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


@torch.inference_mode()
def _latents(recipe: Recipe, run: Path, device: torch.device, vae: dict[str, Tensor]) -> dict[Scene, Tensor]:
    """The latents [places, 4, 8, 8] of every scene."""
    scenes = [
        Scene(thing.name, colour.name, style.name, background.name)
        for thing in OBJECTS
        for colour in COLOURS
        for style in STYLES
        for background in BACKGROUNDS
    ]
    path = run / "latents.safetensors"
    if not path.is_file():
        print(f"encoding {len(scenes) * len(PLACES)} pictures", flush=True)
        network = networks.vae(device)
        network.load_state_dict(vae, strict=False)
        found = [
            network.taesd_encoder(torch.stack([render(scene, place) for place in PLACES]).to(device)).cpu()
            for scene in scenes
        ]
        _save_once(path, {"latents": torch.stack(found)})
    with safe_open(path, framework="pt") as file:
        return dict(zip(scenes, file.get_tensor("latents"), strict=True))


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
        _save_once(path, {"embeddings": torch.cat(found)})
    with safe_open(path, framework="pt") as file:
        return captions, file.get_tensor("embeddings")


def _save_once(path: Path, tensors: dict[str, Tensor]) -> None:
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished)
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
