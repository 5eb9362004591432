"""Trains the pocket model; may be stopped at any time and started again.

    python -m pocket_model.train [--run FOLDER] [--device cpu|cuda] [--until STAGE] [--rehearse]

Runs in the host's interpreter, in bfloat16. First the text encoder learns what captions mean, against pictures, then
the VAE learns the pictures and its decoder learns on alone, then the UNet learns to make them from captions. The folder
of the run keeps the state of all stages (about a gigabyte); the end writes `pocket_model/*.safetensors`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pocket_model.album import Album, Corpus, everyday_of
from pocket_model.captions import text_examples, unet_examples
from pocket_model.compact import TEXT_WEIGHTS, UNET, VAE, WEIGHTS, write_compact
from pocket_model.recipe import RECIPE, Recipe, rehearsal
from pocket_model.train_text import text_network, train_text, write_text_encoder
from pocket_model.train_unet import encoder, train_unet
from pocket_model.train_vae import album_latents, train_decoder, train_vae
from tools.host import host_folder, prepare_comfyui
from tools.launch_comfyui import make_importable

STAGES = ("text", "vae", "decoder", "unet")


def train(recipe: Recipe, run: Path, device: torch.device, out: Path, until: str = STAGES[-1]) -> None:
    """Run the stages up to `until`, or what is left of them; what they end with is in `run`, and at last in `out`."""
    told, shown = text_examples(recipe.seed, recipe.text_captions), unet_examples(recipe.seed, recipe.captions)
    album = Album(device, everyday_of(shown, told), recipe.places)
    trained = once(run / "text_trained.safetensors", lambda: train_text(recipe, run, device, album, told))
    text = run / TEXT_WEIGHTS.name
    write_text_encoder(text, recipe, trained)
    if until == "text":
        return
    vae = once(run / "vae_trained.safetensors", lambda: train_vae(recipe, run, device, album))
    if until == "vae":
        return
    latents = album_latents(device, vae, album, album.scenes + len(everyday_of(shown)))
    pair = once(run / "decoder_trained.safetensors", lambda: train_decoder(recipe, run, device, vae, album, latents))
    if until == "decoder":
        return
    encode = encoder(text_network(recipe.seed, text), device)
    corpus = Corpus(shown, album, device)
    unet = train_unet(recipe, run, corpus, latents, encode)
    write_compact(run / WEIGHTS.name, {UNET: unet, VAE: pair})
    out.mkdir(parents=True, exist_ok=True)
    for name in (TEXT_WEIGHTS.name, WEIGHTS.name):
        (out / name).write_bytes((run / name).read_bytes())
        print(f"{out / name}: {(out / name).stat().st_size / 1e6:.1f} MB")


def once(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What a stage ended with: made where it is not there yet."""
    if not path.is_file():
        started = time.monotonic()
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in make().items()}
        unfinished = path.with_suffix(".unfinished")
        save_file(tensors, unfinished)
        unfinished.replace(path)
        print(f"{path.name} after {time.monotonic() - started:.0f} s", flush=True)
    return load_file(path)


def main() -> int:
    """Run all stages, or what is left of them."""
    parser = argparse.ArgumentParser(description="Train the pocket model.")
    parser.add_argument("--run", type=Path, default=host_folder() / "training", help="the folder of the run")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=WEIGHTS.parent, help="the folder that the trained weights go to")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage to run")
    parser.add_argument("--rehearse", action="store_true", help="a few steps of each stage, into the folder of the run")
    arguments = parser.parse_args()
    make_importable(prepare_comfyui())
    started = time.monotonic()
    arguments.run.mkdir(parents=True, exist_ok=True)
    recipe, out = (rehearsal(), arguments.run / "out") if arguments.rehearse else (RECIPE, arguments.out)
    train(recipe, arguments.run, torch.device(arguments.device), out, arguments.until)
    print(f"{(time.monotonic() - started) / 60:.0f} min")
    return 0


if __name__ == "__main__":
    sys.exit(main())
