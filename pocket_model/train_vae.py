"""The trainings of the VAE: both halves together, then the decoder alone on the latents that the UNet learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pocket_model import networks
from pocket_model.recipe import Recipe
from pocket_model.rendering import PLACES, render
from pocket_model.training import Training
from pocket_model.world import BACKGROUNDS, COLOURS, OBJECTS, PLAIN_STYLE, STYLES, Scene

VISIBLE = 0.02

Latents = dict[Scene, Tensor]


def train_vae(recipe: Recipe, run: Path, device: torch.device) -> dict[str, Tensor]:
    """A TAESD pair that gives the world's pictures back, with latents of mean 0 and variance 1."""
    print("VAE", flush=True)
    network = _vae(device)
    networks.initialise_vae(network, recipe.seed)
    training = Training(network, recipe.vae, run / "vae.safetensors", recipe.seed, recipe.weight_decay)

    def loss(generator: torch.Generator) -> Tensor:
        random = _random(generator)
        pictures = _pictures([random_scene(random) for _ in range(recipe.vae.batch)], random, device)
        with torch.autocast(device.type, torch.bfloat16):
            latents = network.taesd_encoder(pictures).float()
        spread, mean = torch.var_mean(latents, dim=(0, 2, 3))
        moments = (spread - 1).square().mean() + mean.square().mean()
        counts = 1 + (recipe.object_weight - 1) * _differs(pictures, pictures[:, :, :1, :1])
        decoded = _decoded(network, latents, recipe.latent_noise, generator)
        return _missed(decoded, pictures, counts) + recipe.moment_weight * moments

    return training.run(loss)


def train_decoder(
    recipe: Recipe, run: Path, device: torch.device, vae: dict[str, Tensor], latents: Latents
) -> dict[str, Tensor]:
    """The pair with a decoder that goes on learning, from the latents that the encoder ended with.

    The encoder stays as it is, so this may follow the UNet's training or go before it.
    """
    print("decoder", flush=True)
    network = _vae(device)
    network.load_state_dict(vae, strict=False)
    network.taesd_encoder.requires_grad_(False)
    training = Training(network, recipe.decoder, run / "decoder.safetensors", recipe.seed, recipe.weight_decay)

    def loss(generator: torch.Generator) -> Tensor:
        random = _random(generator)
        scenes = [random_scene(random) for _ in range(recipe.decoder.batch)]
        places = [random.randrange(len(PLACES)) for _ in scenes]
        pictures, plain = (
            torch.stack([render(scene, PLACES[place]) for scene, place in zip(shown, places, strict=True)]).to(device)
            for shown in (scenes, [replace(scene, style=PLAIN_STYLE) for scene in scenes])
        )
        # What tells a style from none is a small part of a picture, and is what was learned last.
        counts = 1 + (recipe.object_weight - 1) * _differs(plain, plain[:, :, :1, :1])
        counts = counts + recipe.style_weight * _differs(pictures, plain)
        clean = torch.stack([latents[scene][place] for scene, place in zip(scenes, places, strict=True)]).to(device)
        return _missed(_decoded(network, clean, recipe.latent_noise, generator), pictures, counts)

    return {**vae, **training.run(loss)}


@torch.inference_mode()
def world_latents(run: Path, device: torch.device, vae: dict[str, Tensor]) -> Latents:
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
        network = _vae(device)
        network.load_state_dict(vae, strict=False)
        found = [
            network.taesd_encoder(torch.stack([render(scene, place) for place in PLACES]).to(device)).cpu()
            for scene in scenes
        ]
        save_once(path, {"latents": torch.stack(found)})
    with safe_open(path, framework="pt") as file:
        return dict(zip(scenes, file.get_tensor("latents").clone(), strict=True))


def random_scene(random: Random) -> Scene:
    """A scene drawn evenly."""
    return Scene(*(random.choice(words).name for words in (OBJECTS, COLOURS, STYLES, BACKGROUNDS)))


def save_once(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a file in one step."""
    unfinished = path.with_suffix(".unfinished")
    # What a network in channels-last made is not contiguous.
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished)
    unfinished.replace(path)


def _vae(device: torch.device) -> Any:
    network = networks.vae(device)
    network.vae_scale.requires_grad_(False)
    network.vae_shift.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def _random(generator: torch.Generator) -> Random:
    return Random(int(torch.randint(2**31, (1,), generator=generator)))


def _pictures(scenes: list[Scene], random: Random, device: torch.device) -> Tensor:
    pictures = torch.stack([render(scene, random.choice(PLACES)) for scene in scenes])
    return pictures.to(device, memory_format=torch.channels_last)


def _decoded(network: Any, latents: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Pictures [n, 3, 64, 64] of latents with a little noise, as the UNet's are never exact."""
    noisy = latents + noise * torch.randn(latents.shape, generator=generator).to(latents.device)
    with torch.autocast(latents.device.type, torch.bfloat16):
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
