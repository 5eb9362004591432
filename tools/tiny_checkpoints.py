"""Small checkpoints with random weights, which ComfyUI takes for real ones and samples on a CPU in seconds.

    python -m tools.tiny_checkpoints --out FOLDER [--kinds sd15 sdxl ...]

The UNets are cut down as far as ComfyUI's detection lets them be: it reads the number of transformer blocks at each
level, but not how wide the levels are. The text encoders are complete, because ComfyUI fixes their sizes and leaves
weights that a file lacks uninitialised. The VAE is a TAESD pair. Other architectures are in `tiny_transformers`. To be
run by the host's interpreter.
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.random_weights import (
    CLIP_H,
    CLIP_L,
    REFINER_CLIP_G,
    SDXL_CLIP_G,
    SDXL_CLIP_L,
    Shapes,
    TextEncoder,
    draw,
    shapes_of,
)
from tools.tiny_transformers import TRANSFORMERS
from tools.tiny_vae import tiny_vae

UNET = "model.diffusion_model."
LATENT_CHANNELS = 4
NORM_GROUPS = 32


@dataclass(frozen=True)
class Kind:
    """One kind of Stable Diffusion checkpoint: what sets its UNet apart, its text encoders, and the scale of its latents."""

    unet: dict[str, Any]
    text_encoders: tuple[TextEncoder, ...]
    latent_scale: float


def levels(depths: list[int], blocks_per_level: int, middle: int, channels: int = 320) -> dict[str, Any]:
    """The part of a UNet's configuration that says how many levels it has and what is on each.

    `depths` holds the number of transformer blocks per residual block on the way down; every level is equally wide.
    """
    count = len(depths) // blocks_per_level
    per_level = [depths[level * blocks_per_level] for level in range(count)]
    return {
        "model_channels": channels,
        "channel_mult": [1] * count,
        "num_res_blocks": [blocks_per_level] * count,
        "transformer_depth": depths,
        "transformer_depth_middle": middle,
        # The way up has one residual block more per level; ComfyUI takes the depths from the end of this list.
        "transformer_depth_output": [depth for depth in per_level for _ in range(blocks_per_level + 1)],
    }


SD1_UNET = {
    **levels([1], 1, middle=1),
    "context_dim": 768,
    "num_heads": 8,
    "use_linear_in_transformer": False,
}
SDXL_COMMON = {"num_head_channels": 64, "use_linear_in_transformer": True, "num_classes": "sequential"}

UNETS: dict[str, Kind] = {
    "sd15": Kind(SD1_UNET, (CLIP_L,), 0.18215),
    "sd15_inpaint": Kind({**SD1_UNET, "in_channels": 9}, (CLIP_L,), 0.18215),
    "ip2p": Kind({**SD1_UNET, "in_channels": 8}, (CLIP_L,), 0.18215),
    "sd2": Kind(
        {
            **levels([1], 1, middle=1),
            "context_dim": 1024,
            "num_head_channels": 64,
            "use_linear_in_transformer": True,
        },
        (CLIP_H,),
        0.18215,
    ),
    "sdxl": Kind(
        {
            **levels([0, 0, 2, 2, 10, 10], 2, middle=10),
            "context_dim": 2048,
            "adm_in_channels": 2816,
            **SDXL_COMMON,
        },
        (SDXL_CLIP_L, SDXL_CLIP_G),
        0.13025,
    ),
    "sdxl_refiner": Kind(
        {
            **levels([0, 0, 4, 4, 4, 4, 0, 0], 2, middle=4, channels=384),
            "context_dim": 1280,
            "adm_in_channels": 2560,
            **SDXL_COMMON,
        },
        (REFINER_CLIP_G,),
        0.13025,
    ),
}

KINDS = (*UNETS, *TRANSFORMERS)
# What draws them: any change builds them again.
SOURCES = ("random_weights", "tiny_checkpoints", "tiny_transformers", "tiny_vae")


def build(kind: str, path: Path, seed: int = 0) -> Path:
    """Write the file unless the same one is there; ComfyUI must be importable (`make_importable`)."""
    stamp = path.with_suffix(".txt")
    source = zlib.crc32(b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in SOURCES))
    signature = f"{kind}, seed {seed}, torch {torch.__version__}, source {source:08x}"
    if path.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == signature:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    save_file(_weights(kind, seed), unfinished)
    unfinished.replace(path)
    stamp.write_text(signature, encoding="utf-8", newline="\n")
    return path


@torch.inference_mode()
def _weights(kind: str, seed: int) -> dict[str, torch.Tensor]:
    return TRANSFORMERS[kind](seed) if kind in TRANSFORMERS else unet_checkpoint(UNETS[kind], seed)


def unet_checkpoint(kind: Kind, seed: int) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint, float16; ComfyUI must be importable (`make_importable`)."""
    weights = {key: draw(key, shape, seed) for key, shape in _unet_shapes(kind)}
    _pass_noise_through(weights)
    for encoder in kind.text_encoders:
        weights.update(encoder.draw(seed))
    weights.update({f"first_stage_model.{key}": value for key, value in tiny_vae(seed).items()})
    weights["first_stage_model.vae_scale"] = torch.tensor(kind.latent_scale)
    return weights


def _pass_noise_through(weights: dict[str, torch.Tensor]) -> None:
    """Let a UNet predict the noise as its input plus something small that depends on the prompt.

    A random prediction would remove none of the noise, and pictures would be saturated. So the channels of the first
    group of the last norm carry the input x and -x past everything: from the first convolution, over the last skip
    connection, to the last convolution, where silu(x) - silu(-x) = x.
    """
    channels = weights[f"{UNET}input_blocks.0.0.weight"].shape[0]
    group = channels // NORM_GROUPS
    last = max(int(key.split(".")[3]) for key in weights if key.startswith(f"{UNET}output_blocks."))
    into_group = ("input_blocks.0.0", f"output_blocks.{last}.0.skip_connection")
    past_group = (f"output_blocks.{last}.0.out_layers.3", f"output_blocks.{last}.1.proj_out")
    for name in into_group + past_group:
        # Where the last level has no attention there is no projection.
        if f"{UNET}{name}.weight" in weights:
            weights[f"{UNET}{name}.weight"][:group] = 0
            weights[f"{UNET}{name}.bias"][:group] = 0
    first, skip = (weights[f"{UNET}{name}.weight"] for name in into_group)
    final = weights[f"{UNET}out.2.weight"]
    final[:, :group] = 0
    # The norm divides by the root mean square of the group, whose remaining channels are zero.
    size = (2 * LATENT_CHANNELS / group) ** 0.5
    for carrier in range(2 * LATENT_CHANNELS):
        latent, sign = carrier // 2, 1 - 2 * (carrier % 2)
        first[carrier, latent, 1, 1] = sign
        # The skipped half of the input comes second.
        skip[carrier, channels + carrier] = 1
        final[latent, carrier, 1, 1] = sign * size


def _unet_shapes(kind: Kind) -> Shapes:
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    config = {
        "in_channels": 4,
        "out_channels": 4,
        "use_spatial_transformer": True,
        "legacy": False,
        **kind.unet,
    }
    unet = UNetModel(image_size=32, device="meta", **config)
    yield from shapes_of(unet, UNET)


def main() -> None:
    """Build checkpoints from the command line."""
    parser = argparse.ArgumentParser(description="Write small checkpoints with random weights.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write them into")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="which ones; all by default")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_importable(prepare_comfyui())
    for kind in arguments.kinds:
        start = time.perf_counter()
        path = build(kind, arguments.out / f"{kind}.safetensors", arguments.seed)
        size, seconds = path.stat().st_size / 2**20, time.perf_counter() - start
        print(f"{path}: {size:.0f} MiB, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
