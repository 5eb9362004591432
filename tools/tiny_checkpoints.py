"""Small checkpoints with random weights, which ComfyUI takes for real ones and samples on a CPU in seconds.

    python -m tools.tiny_checkpoints --out FOLDER [--kinds sd15 sdxl ...]

The UNets are cut down as far as ComfyUI's detection lets them be: it reads the number of transformer blocks at each
level, but not how wide the levels are. The text encoders are complete, because ComfyUI fixes their sizes and leaves
weights that a file lacks uninitialised. The VAE is a TAESD pair. To be run by the host's interpreter.
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable

Shapes = Iterator[tuple[str, tuple[int, ...]]]

RESIDUAL = ("out_proj.weight", "fc2.weight", "c_proj.weight")
# Where plain scaling would give pictures that hardly depend on the prompt: attention that picks out words instead of
# averaging over them, and text that counts.
GAINS = {
    "self_attn.q_proj": 1.5,
    "self_attn.k_proj": 1.5,
    "attn.in_proj_weight": 1.5,
    "attn.out_proj": 2.0,  # in both ways of naming
    "attn2.to_q": 2.0,
    "attn2.to_out": 2.0,
    # What is left of the prediction beside `_pass_noise_through` is multiplied by the highest noise level, about 15.
    "diffusion_model.out.2.": 0.1,
}

UNET = "model.diffusion_model."
LATENT_CHANNELS = 4
NORM_GROUPS = 32

VOCABULARY = 49408
POSITIONS = 77


@dataclass(frozen=True)
class TextEncoder:
    """A CLIP text encoder; `openclip` says in which of the two ways its weights are named."""

    prefix: str
    width: int
    layers: int
    openclip: bool


@dataclass(frozen=True)
class Kind:
    """One kind of checkpoint: what sets its UNet apart, its text encoders, and the scale of its latents."""

    unet: dict[str, Any]
    text_encoders: tuple[TextEncoder, ...]
    latent_scale: float


def _levels(depths: list[int], blocks_per_level: int, middle: int, channels: int = 320) -> dict[str, Any]:
    """The part of a UNet's configuration that says how many levels it has and what is on each.

    `depths` holds the number of transformer blocks per residual block on the way down; every level is equally wide.
    """
    levels = len(depths) // blocks_per_level
    per_level = [depths[level * blocks_per_level] for level in range(levels)]
    return {
        "model_channels": channels,
        "channel_mult": [1] * levels,
        "num_res_blocks": [blocks_per_level] * levels,
        "transformer_depth": depths,
        "transformer_depth_middle": middle,
        # The way up has one residual block more per level; ComfyUI takes the depths from the end of this list.
        "transformer_depth_output": [depth for depth in per_level for _ in range(blocks_per_level + 1)],
    }


SD1_UNET = {
    **_levels([1], 1, middle=1),
    "context_dim": 768,
    "num_heads": 8,
    "use_linear_in_transformer": False,
}
SDXL_COMMON = {"num_head_channels": 64, "use_linear_in_transformer": True, "num_classes": "sequential"}
CLIP_L = TextEncoder("cond_stage_model.transformer.text_model.", 768, 12, openclip=False)
CLIP_H = TextEncoder("cond_stage_model.model.", 1024, 24, openclip=True)
SDXL_CLIP_L = TextEncoder("conditioner.embedders.0.transformer.text_model.", 768, 12, openclip=False)
SDXL_CLIP_G = TextEncoder("conditioner.embedders.1.model.", 1280, 32, openclip=True)
REFINER_CLIP_G = TextEncoder("conditioner.embedders.0.model.", 1280, 32, openclip=True)

KINDS: dict[str, Kind] = {
    "sd15": Kind(SD1_UNET, (CLIP_L,), 0.18215),
    "sd15_inpaint": Kind({**SD1_UNET, "in_channels": 9}, (CLIP_L,), 0.18215),
    "ip2p": Kind({**SD1_UNET, "in_channels": 8}, (CLIP_L,), 0.18215),
    "sd2": Kind(
        {
            **_levels([1], 1, middle=1),
            "context_dim": 1024,
            "num_head_channels": 64,
            "use_linear_in_transformer": True,
        },
        (CLIP_H,),
        0.18215,
    ),
    "sdxl": Kind(
        {
            **_levels([0, 0, 2, 2, 10, 10], 2, middle=10),
            "context_dim": 2048,
            "adm_in_channels": 2816,
            **SDXL_COMMON,
        },
        (SDXL_CLIP_L, SDXL_CLIP_G),
        0.13025,
    ),
    "sdxl_refiner": Kind(
        {
            **_levels([0, 0, 4, 4, 4, 4, 0, 0], 2, middle=4, channels=384),
            "context_dim": 1280,
            "adm_in_channels": 2560,
            **SDXL_COMMON,
        },
        (REFINER_CLIP_G,),
        0.13025,
    ),
}


def build(kind: str, path: Path, seed: int = 0) -> Path:
    """Write the checkpoint unless the same one is there; ComfyUI must be importable (`make_importable`)."""
    stamp = path.with_suffix(".txt")
    # Built again after any change to this file.
    source = zlib.crc32(Path(__file__).read_bytes())
    signature = f"{kind}, seed {seed}, torch {torch.__version__}, source {source:08x}"
    if path.is_file() and stamp.is_file() and stamp.read_text() == signature:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    save_file(_weights(KINDS[kind], seed), unfinished)
    unfinished.replace(path)
    stamp.write_text(signature)
    return path


@torch.inference_mode()
def _weights(kind: Kind, seed: int) -> dict[str, torch.Tensor]:
    weights = {key: _draw(key, shape, seed) for key, shape in _unet_shapes(kind)}
    _pass_noise_through(weights)
    for encoder in kind.text_encoders:
        shapes = _openclip_shapes(encoder) if encoder.openclip else _clip_shapes(encoder)
        weights.update({key: _draw(key, shape, seed, encoder.layers) for key, shape in shapes})
    weights.update({f"first_stage_model.{key}": value for key, value in _vae_weights(seed).items()})
    weights["first_stage_model.vae_scale"] = torch.tensor(kind.latent_scale)
    return weights


def _draw(key: str, shape: tuple[int, ...], seed: int, layers: int = 1) -> torch.Tensor:
    """Random values that keep activations near 1: none is left zero, not even where training would begin so."""
    # Each weight has its own seed, so that it does not depend on the order in which ComfyUI lists them.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {key}".encode()))
    values = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return (values * 0.02 + (1.0 if key.endswith("weight") else 0.0)).half()
    return (values * _spread(key, shape, layers)).half()


def _spread(key: str, shape: tuple[int, ...], layers: int) -> float:
    """The standard deviation of a matrix, a convolution or a table of embeddings."""
    if key.endswith("token_embedding.weight"):
        return 1.0
    if "position" in key:
        return 0.3
    fan_in = torch.Size(shape).numel() // shape[0]
    # The sum over all layers of a text encoder is to be as large as the embeddings that it is added to.
    spread: float = (fan_in * layers) ** -0.5 if key.endswith(RESIDUAL) else fan_in**-0.5
    return spread * next((gain for part, gain in GAINS.items() if part in key), 1.0)


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
    yield from _shapes_of(unet, UNET)


def _vae_weights(seed: int) -> dict[str, torch.Tensor]:
    """A TAESD pair whose decoder turns latents of ordinary size into pictures of medium brightness and contrast."""
    from comfy.taesd.taesd import TAESD

    vae = TAESD()
    drawn = {key: _draw(key, shape, seed).float() for key, shape in _shapes_of(vae, "") if shape}
    vae.load_state_dict(drawn, strict=False)
    picture = vae.taesd_decoder(torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(seed)))
    brightness, contrast = picture.mean(dim=(0, 2, 3)), picture.std(dim=(0, 2, 3))
    last = vae.taesd_decoder[-1]
    gain = 0.2 / contrast
    last.weight.mul_(gain[:, None, None, None])
    last.bias.copy_(0.5 + (last.bias - brightness) * gain)
    return {key: value.half() for key, value in vae.state_dict().items()}


def _shapes_of(module: torch.nn.Module, prefix: str) -> Shapes:
    for key, tensor in module.state_dict().items():
        yield prefix + key, tuple(tensor.shape)


def _clip_shapes(encoder: TextEncoder) -> Shapes:
    width = encoder.width
    yield f"{encoder.prefix}embeddings.token_embedding.weight", (VOCABULARY, width)
    yield f"{encoder.prefix}embeddings.position_embedding.weight", (POSITIONS, width)
    yield from _affine(f"{encoder.prefix}final_layer_norm", (width,))
    for layer in range(encoder.layers):
        prefix = f"{encoder.prefix}encoder.layers.{layer}."
        for name in ("layer_norm1", "layer_norm2"):
            yield from _affine(prefix + name, (width,))
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _affine(f"{prefix}self_attn.{name}", (width, width))
        yield from _affine(f"{prefix}mlp.fc1", (4 * width, width))
        yield from _affine(f"{prefix}mlp.fc2", (width, 4 * width))


def _openclip_shapes(encoder: TextEncoder) -> Shapes:
    width = encoder.width
    yield f"{encoder.prefix}token_embedding.weight", (VOCABULARY, width)
    yield f"{encoder.prefix}positional_embedding", (POSITIONS, width)
    yield f"{encoder.prefix}text_projection", (width, width)
    yield from _affine(f"{encoder.prefix}ln_final", (width,))
    for layer in range(encoder.layers):
        prefix = f"{encoder.prefix}transformer.resblocks.{layer}."
        for name in ("ln_1", "ln_2"):
            yield from _affine(prefix + name, (width,))
        yield f"{prefix}attn.in_proj_weight", (3 * width, width)
        yield f"{prefix}attn.in_proj_bias", (3 * width,)
        yield from _affine(f"{prefix}attn.out_proj", (width, width))
        yield from _affine(f"{prefix}mlp.c_fc", (4 * width, width))
        yield from _affine(f"{prefix}mlp.c_proj", (width, 4 * width))


def _affine(name: str, shape: tuple[int, ...]) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def main() -> None:
    """Build checkpoints from the command line."""
    parser = argparse.ArgumentParser(description="Write small checkpoints with random weights.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write them into")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which ones; all by default")
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
