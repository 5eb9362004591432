"""A small VAE with random weights that ComfyUI takes for one of the tiny autoencoders people use for previews."""

from __future__ import annotations

import torch

from tools.random_weights import draw, shapes_of


def tiny_vae(seed: int, channels: int = 4) -> dict[str, torch.Tensor]:
    """A TAESD pair whose decoder turns latents of ordinary size into pictures of medium brightness and contrast."""
    from comfy.taesd.taesd import TAESD

    vae = TAESD(latent_channels=channels)
    drawn = {key: draw(key, shape, seed).float() for key, shape in shapes_of(vae, "") if shape}
    vae.load_state_dict(drawn, strict=False)
    picture = vae.taesd_decoder(torch.randn(1, channels, 32, 32, generator=torch.Generator().manual_seed(seed)))
    brightness, contrast = picture.mean(dim=(0, 2, 3)), picture.std(dim=(0, 2, 3))
    last = vae.taesd_decoder[-1]
    gain = 0.2 / contrast
    last.weight.mul_(gain[:, None, None, None])
    last.bias.copy_(0.5 + (last.bias - brightness) * gain)
    return {key: value.half() for key, value in vae.state_dict().items()}
