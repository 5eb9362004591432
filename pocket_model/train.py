"""Trains the pocket model; may be stopped at any time and started again.

    python -m pocket_model.train [--run FOLDER] [--device cpu|cuda]

Runs in the host's interpreter. First the VAE learns the pictures, then the UNet learns to make them from captions, and
at the end the VAE's decoder learns on alone. The folder of the run keeps the state of all three (about 800 MB); the end
writes `pocket_model/weights.safetensors`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from pocket_model.compact import WEIGHTS, write_compact
from pocket_model.recipe import RECIPE
from pocket_model.train_unet import train_unet
from pocket_model.train_vae import train_decoder, train_vae, world_latents
from tools.host import host_folder, prepare_comfyui
from tools.launch_comfyui import make_importable


def main() -> int:
    """Run all stages, or what is left of them."""
    parser = argparse.ArgumentParser(description="Train the pocket model.")
    parser.add_argument("--run", type=Path, default=host_folder() / "training", help="the folder of the run")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the trained weights go")
    arguments = parser.parse_args()
    make_importable(prepare_comfyui())
    device = torch.device(arguments.device)
    started = time.monotonic()
    vae = train_vae(RECIPE, arguments.run, device)
    latents = world_latents(arguments.run, device, vae)
    unet = train_unet(RECIPE, arguments.run, device, latents)
    vae = train_decoder(RECIPE, arguments.run, device, vae, latents)
    write_compact(arguments.out, unet, vae)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB, {(time.monotonic() - started) / 60:.0f} min")
    return 0


if __name__ == "__main__":
    sys.exit(main())
