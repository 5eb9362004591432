"""Makes the pocket model's checkpoint: what was trained from the repository, what was not from the seed.

python -m pocket_model.assemble --out FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pocket_model import networks
from pocket_model.compact import TEXT_WEIGHTS, UNET, VAE, WEIGHTS, read_compact
from pocket_model.recipe import RECIPE
from pocket_model.text_network import merged_weights
from pocket_model.train_text import read_text_encoder
from tools.host import host_folder, prepare_comfyui
from tools.launch_comfyui import make_importable

NAME = "pocket.safetensors"


def pocket_checkpoint(folder: Path | None = None) -> Path:
    """The assembled checkpoint in `folder` (by default with the host's others), made anew where it is not there.

    ComfyUI must be importable (`make_importable`).
    """
    path = (folder or host_folder() / "checkpoints") / NAME
    stamp = path.with_suffix(".txt")
    signature = f"{pocket_signature()}, torch {torch.__version__}"
    if path.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == signature:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    save_file(checkpoint_weights(), unfinished)
    unfinished.replace(path)
    stamp.write_text(signature, encoding="utf-8", newline="\n")
    return path


def pocket_signature() -> str:
    """What identifies the trained weights."""
    return f"{_digest(WEIGHTS)}, {_digest(TEXT_WEIGHTS)}"


def checkpoint_weights(weights: Path = WEIGHTS, text: Path = TEXT_WEIGHTS) -> dict[str, Tensor]:
    """All tensors of the checkpoint, float16, under the names of SD1."""
    found = {f"{networks.UNET}{name}": value for name, value in trained_unet(weights).items()}
    found |= {f"{networks.UNET}{name}": value for name, value in networks.frozen_weights(RECIPE.seed).items()}
    found |= {f"{networks.VAE}{name}": value for name, value in trained_vae(weights).items()}
    # ComfyUI's SD1 divides latents by this before it decodes them; the VAE was trained on latents as they are.
    found[f"{networks.VAE}vae_scale"] = torch.tensor(0.18215)
    return {name: value.half() for name, value in found.items()} | text_encoder_weights(text)


def text_encoder_weights(text: Path = TEXT_WEIGHTS) -> dict[str, Tensor]:
    """The text encoder, float16, by its names in a checkpoint."""
    trained = read_text_encoder(text)
    return merged_weights(RECIPE.seed, trained.weights, trained.tokens)


def trained_unet(weights: Path = WEIGHTS) -> dict[str, Tensor]:
    """The UNet's trained tensors, float32."""
    return read_compact(weights, UNET, _trained_shapes(networks.unet()))


def trained_vae(weights: Path = WEIGHTS) -> dict[str, Tensor]:
    """The VAE's tensors, float32."""
    return read_compact(weights, VAE, _shapes(networks.vae()))


def _trained_shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: shape for name, shape in _shapes(network).items() if not networks.is_frozen(name)}


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in network.named_parameters() if not name.startswith("vae_")}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    """Assemble from the command line."""
    parser = argparse.ArgumentParser(description="Assemble the pocket model's checkpoint.")
    parser.add_argument("--out", type=Path, help="the folder to write it into")
    make_importable(prepare_comfyui())
    path = pocket_checkpoint(parser.parse_args().out)
    print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB, SHA-256 {_digest(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
