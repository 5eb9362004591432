"""The pocket model's networks, in ComfyUI's own classes: whatever is trained here is what ComfyUI will sample.

ComfyUI must be importable (`tools.launch_comfyui.make_importable`).
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor, nn

UNET, VAE = "model.diffusion_model.", "first_stage_model."
LATENT_CHANNELS, LATENT_SIDE = 4, 8
# SD1.5's UNet with its first level only: ComfyUI takes a checkpoint of this shape for SD1.5.
UNET_CONFIG: dict[str, Any] = {
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "model_channels": 320,
    "channel_mult": [1],
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1],
    "context_dim": 768,
    "num_heads": 8,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
}
# These stay as the seed drew them, and so cost no bytes: the embedding of the noise level.
FROZEN = ("time_embed.",)
# Residual branches begin at zero, so that the untrained network passes its input on.
ZEROED = ("out_layers.3.", "proj_out.", "out.2.")
LAST_OF_BLOCK = "conv.4"
INITIALISED: tuple[Any, ...] = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)


def unet(device: str | torch.device = "meta") -> Any:
    """The UNet, its weights not yet set."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return UNetModel(image_size=LATENT_SIDE, device=device, dtype=torch.float32, **UNET_CONFIG)


def vae(device: str | torch.device = "meta") -> Any:
    """The TAESD pair, its weights not yet set."""
    from comfy.taesd.taesd import TAESD

    with torch.device(device):
        return TAESD(latent_channels=LATENT_CHANNELS)


def initialise_vae(network: Any, seed: int) -> None:
    """Begin as a box blur: three channels carry the colours through both halves, all others are He et al.'s.

    From random weights alone the pair first learns grey blobs, and stays with them for thousands of steps.
    """
    torch.manual_seed(seed)
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if name.endswith(LAST_OF_BLOCK):
            module.weight.data.mul_(0.1)
    convolutions = [
        [m for m in half if isinstance(m, nn.Conv2d)] for half in (network.taesd_encoder, network.taesd_decoder)
    ]
    centre, cell = (1, 1), (slice(1, 3), slice(1, 3))
    (first, *halving, last), (opening, *between, closing) = convolutions
    _carry(first, centre, 1.0)
    for convolution in halving:
        _carry(convolution, cell, 0.25)
    # Pictures have means of about 0.6 and standard deviations of about a third.
    _carry(last, centre, 3.0, -1.8)
    _carry(opening, centre, 1 / 3, 0.6)
    for convolution in between:
        _carry(convolution, centre, 1.0)
    closing.weight.data.mul_(0.1)
    _carry(closing, centre, 1.0)


@torch.no_grad()
def _carry(convolution: nn.Conv2d, taps: tuple[Any, Any], weight: float, bias: float = 0.0) -> None:
    """Let the first three channels be `weight` times those of the input at `taps`, plus `bias`."""
    for channel in range(3):
        convolution.weight[channel] = 0
        convolution.weight[(channel, channel, *taps)] = weight
    if convolution.bias is not None:
        convolution.bias[:3] = bias


def initialise_unet(network: Any, seed: int) -> None:
    """Set all weights as PyTorch would, from a seed; ComfyUI's layers leave them as memory was."""
    torch.manual_seed(seed)
    for name, module in network.named_modules():
        for kind in INITIALISED:
            if isinstance(module, kind):
                kind.reset_parameters(module)
        if f"{name}.".endswith(ZEROED):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)


def is_frozen(name: str) -> bool:
    """Whether a tensor of the UNet is left as the seed drew it."""
    return name.startswith(FROZEN)


def frozen_weights(seed: int) -> dict[str, Tensor]:
    """The UNet's tensors that are not trained, from the seed alone."""
    return {
        f"{name}.{part}": values
        for name, shape in (("time_embed.0", (1280, 320)), ("time_embed.2", (1280, 1280)))
        for part, values in _frozen_layer(name, shape, seed).items()
    }


def _frozen_layer(name: str, shape: tuple[int, int], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    return {
        "weight": torch.randn(shape, generator=generator) * shape[1] ** -0.5,
        "bias": torch.zeros(shape[0]),
    }


@torch.inference_mode()
def encode(clip: Any, captions: list[str]) -> Tensor:
    """Token embeddings [n, 77, 768] of captions, as ComfyUI's nodes would give them one by one."""
    import comfy.model_management

    comfy.model_management.load_model_gpu(clip.patcher)
    sections = [clip.tokenize(caption)["l"][0] for caption in captions]
    tokens = [[token for token, _ in section] for section in sections]
    embeddings: Tensor = clip.cond_stage_model.clip_l(tokens)[0]
    return embeddings.cpu()
